"""The policy file: what task owners request.

Imports only `curation`.
"""
