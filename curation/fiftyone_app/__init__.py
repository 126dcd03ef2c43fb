"""The catalog in the FiftyOne App: a mirror data set that can be deleted at any time, and edits imported from it.

May import every other room of curation but `labelstudio`.
"""
