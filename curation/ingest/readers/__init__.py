"""One reader a format: each turns files into the three tables of `content`.

May import `curation.catalog`, `curation.images`, `curation.files` and `curation.synthetic`.
"""
