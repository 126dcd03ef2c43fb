"""The policy file: what the owners of tasks ask for.

Imports only `curation`.
"""
