"""Files on disk: written whole or not at all, locked, hashed, located and downloaded, with retries.

Imports nothing of Amber but `curation.errors`.
"""
