"""What the labels say as a whole: coverage, co-labelling, missingness, agreement, priors.

May import `curation.catalog` and the rooms below it.
"""
