"""Shards: image bytes in tar files, written here and read from disk or from a URL.

Imports only `curation`.
"""
