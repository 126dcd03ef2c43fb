"""The FiftyOne App on the catalog: a mirror that can be thrown away at any time. The catalog stays the truth.

May import every other room of curation but `labelstudio`.
"""
