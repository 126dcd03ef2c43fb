"""Predictions of a run and its figures for every (task, slice), with intervals.

Only `evaluation` and `features`, where a network predicts, import torch and `training.network`; metrics, intervals,
decisions and figures need numpy and the catalog.
"""
