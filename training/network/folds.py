"""Folds of a cross-validation: whole groups, each class spread evenly over the folds."""

import numpy as np

from curation.arrays import Floats, Ints
from samplers.plan.interleave import hash64

__all__ = ["FOLDS", "folds_of", "strata_of"]


FOLDS = 5
BINS = 5
"""Equally full bins by which the folds of a numeric task are balanced."""


def folds_of(groups: Ints, strata: Ints, *, seed: int = 0, folds: int = FOLDS) -> Ints:
    """The fold [n] of each label: all labels of a group share one, and each stratum is spread over the folds.

    `groups` and `strata` [n] are codes. Groups with the rarest strata choose first; each takes the fold that holds the
    smallest part of its strata so far. Ties follow a hash of (seed, group), so that the order of the labels plays no
    part. With fewer groups than `folds` there are as many folds as groups.

    >>> folds_of(np.array([0, 0, 1, 2, 3]), np.array([0, 0, 0, 1, 1]), folds=2).tolist()
    [0, 0, 1, 0, 1]
    """
    names, group = np.unique(groups, return_inverse=True)
    _, stratum = np.unique(strata, return_inverse=True)
    count = min(folds, len(names))
    table = np.zeros((len(names), stratum.max(initial=-1) + 1))
    np.add.at(table, (group, stratum), 1)
    parts = table / table.sum(axis=0)
    order = np.lexsort([hash64(seed, names), -parts.max(axis=1)])
    held = np.zeros((count, table.shape[1]))
    fold = np.zeros(len(names), np.int64)
    for row in order.tolist():
        cost = held @ parts[row]
        fold[row] = np.lexsort([held.sum(axis=1), np.round(cost, 12)])[0]
        held[fold[row]] += parts[row]
    return fold[group]


def strata_of(values: Floats, *, numeric: bool) -> Ints:
    """What folds are balanced by: the class, or the fifth of the labels that a number falls into."""
    if not numeric:
        return values.astype(np.int64)
    if not len(values):
        return np.zeros(0, np.int64)
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.asarray(np.searchsorted(edges, values, side="right"), np.int64)
