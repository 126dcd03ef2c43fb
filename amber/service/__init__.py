"""The HTTP service of one workspace: images under signed URLs, and the catalog as a JSON API.

Limits are in `connections.py` (URLs, headers, connections), `middleware.py` (bodies, load) and `pictures.py` (images).
It may import everything below `amber`, and nothing of `amber.verbs`.
"""
