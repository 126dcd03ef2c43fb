"""The network: trunks, heads and losses.

May import `samplers` and `training.run`.
"""
