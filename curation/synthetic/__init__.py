"""Road scenes that Amber draws itself: small, sparsely labelled, with rarities whose truth is known.

A drive is a burst of 3 to 8 near-duplicate frames; everything about drive d is a function of (seed, d). May import
`curation.catalog` and the rooms below it; the reader is `curation.ingest.readers.streets`.
"""
