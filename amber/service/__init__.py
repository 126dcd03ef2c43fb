"""The HTTP service of one workspace: images under signed URLs, and the catalog as a JSON API.

Limits: `connections.py` (URL, headers, connections), `middleware.py` (bodies, requests at once), `pictures.py` (images).
It may import everything below `amber`, and nothing of `amber.verbs`.
"""
