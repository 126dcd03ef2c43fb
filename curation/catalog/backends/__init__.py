"""Storage of a catalog: one DuckDB file with its journal, or DuckLake.

May import `curation.files` and the SQL helpers of `curation.catalog`, never the catalog itself.
"""
