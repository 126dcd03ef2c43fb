"""The verbs of the command line, one module per group of verbs; `amber.cli` imports each on first use.

A module imports `amber` and everything below it, and delays what is slow to load until a command runs.
"""
