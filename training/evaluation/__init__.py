"""Predictions of a run and its figures for every (task, slice), with intervals.

May import `training.network`.
"""
