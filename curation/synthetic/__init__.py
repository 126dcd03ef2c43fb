"""Street scenes that Amber renders: small, sparsely labelled images with planted rare cases and a known truth.

A drive is a burst of 3 to 8 near-duplicate frames, and a function of (seed, number of the drive). May import
`curation.catalog` and the rooms below it; the reader is `curation.ingestion.readers.streets`.
"""
