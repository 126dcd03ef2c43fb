"""One reader for each format: each turns files into the tables of `content`.

May import `curation.catalog`, `curation.images`, `curation.files` and `curation.synthetic`.
"""
