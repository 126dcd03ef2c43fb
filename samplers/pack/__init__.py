"""Packs: images written once into shards, with an index.

May import `samplers.shards` and `samplers.policy`.
"""
