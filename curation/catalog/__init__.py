"""The catalog: commits of label events, the labels that are current at any commit, tasks and slices.

May import `curation.images` and `curation.files`; its own `backends` and `admin` are rooms inside it.
"""
