"""Bytes in tars: writing them, and reading them here or far away.

Imports only `curation`.
"""
