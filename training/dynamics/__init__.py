"""How one network of many owners goes on: which tasks help each other, what is searched, retrained and replayed.

May import `training.loop`, `training.report` and whatever is below them, `training.deployment` not.
"""
