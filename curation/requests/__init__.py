"""Which labels to request next and why, by strategy or by hand; the oracle answers them in simulations.

May import `curation.catalog`, `curation.images` and, for splits, `curation.ingest`.
"""
