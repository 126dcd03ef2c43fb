"""Data sets on their way in and out: declarations, ingest, splits, leaks, and the writers of exports.

May import `curation.catalog`, `curation.synthetic` and the rooms below them.
"""
