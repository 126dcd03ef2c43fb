"""The stream: a plan's draws in order, as batches of pixels, labels and weights, or as new shards.

May import every other room of `samplers`.
"""
