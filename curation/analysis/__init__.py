"""Statistics of the labels: coverage, co-labelling, missingness, agreement of annotators, natural priors.

May import `curation.catalog` and the rooms below it.
"""
