"""Packs: images written once into shards, with an index over them.

May import `samplers.shards` and `samplers.policy`.
"""
