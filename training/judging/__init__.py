"""What a team decides from the predictions of runs: is a difference real, may a run ship, where does it fail.

May import `training.evaluation` (not the modules that need torch) and whatever is below it; never torch.
"""
