"""Trained networks outside of the catalog: exported for other programs, and run on other images.

May import every other room of training. Only `export` and `check` need the extra `export`.
"""
