"""Data sets in and out: declarations, readers, ingest, splits, leaks, and the writers of exports.

May import `curation.catalog`, `curation.synthetic` and the rooms below them.
"""
