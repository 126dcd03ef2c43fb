"""Images under signed URLs: answered in parts or as thumbnails, found by key, refused once they are forgotten."""
