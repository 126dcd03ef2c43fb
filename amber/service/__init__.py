"""The HTTP service of one workspace: images under signed URLs, and the catalog as a JSON API.

It may import everything below `amber`, and nothing of `amber.verbs`.
"""
