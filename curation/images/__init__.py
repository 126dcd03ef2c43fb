"""Images and their vectors: decoding and inspection, perceptual hashes, embeddings, near-duplicates.

May import `curation.files`.
"""
