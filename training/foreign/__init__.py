"""Predictions of models that Amber did not train: files are read and checked, and become a run without a plan.

It may import `training.evaluation` and what lies below; nothing here needs torch.
"""
