"""Files on disk: written whole or not at all, locked, hashed, located and downloaded, with retries.

May import `curation.errors` and `curation.arrays`, nothing else of Amber.
"""
