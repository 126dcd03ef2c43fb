"""Label requests: which labels to request next and why, by strategy or by hand; the oracle answers in simulations.

May import `curation.catalog`, `curation.images` and the rooms below them.
"""
