"""The service: images under signed URLs, and what the catalog knows as JSON."""
