"""Images under signed URLs: answered in parts or as thumbnails, found by key, refused once they are forgotten.

May import `secret_files.py` and `metrics.py` of the service; no route and no page.
"""
