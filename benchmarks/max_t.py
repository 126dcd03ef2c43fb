"""The step from differences by seed and task to one p value for all tasks."""

import numpy as np

from curation.arrays import Floats

__all__ = ["max_t"]


def max_t(differences: Floats) -> float:
    """The one-sided p value of the largest t among the columns of `differences` [seeds, tasks], over all sign flips
    (Westfall and Young 1993; the flips take whole seeds).

    With five seeds the smallest possible value is 1/32.

    >>> max_t(np.array([[1.0, 0.1], [2.0, -0.1], [1.5, 0.0]]))
    0.125
    """
    seeds = len(differences)
    signs = 1 - 2 * ((np.arange(2**seeds)[:, None] >> np.arange(seeds)) & 1)

    def largest(values: Floats) -> float:
        error = values.std(axis=0, ddof=1 if seeds > 1 else 0) / seeds**0.5
        return float((values.mean(axis=0) / np.maximum(error, 1e-12)).max())

    observed = largest(differences)
    return float(np.mean([largest(differences * flip[:, None]) >= observed - 1e-9 for flip in signs]))
