"""The training loop and its feed of batches.

May import `training.network`.
"""
