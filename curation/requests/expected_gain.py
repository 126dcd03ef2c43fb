"""Requests for a task of numbers: the samples whose labels most reduce the expected error of a ridge regression."""

from typing import Final

import numpy as np

from curation.arrays import Bools, Float32s, Floats, Ints

__all__ = ["RIDGES", "chosen_ridge", "most_expected_gain"]

RIDGES: Final = 10.0 ** np.arange(-3, 3.5, 0.5)
"""Ridges that are compared, over the mean squared length of a vector."""
FOLDS: Final = 5
FEWEST: Final = 20
"""With fewer labels than this, the ridge is the mean squared length."""


def chosen_ridge(vectors: Float32s, numbers: Floats, groups: Ints) -> float:
    """The ridge of a linear regression of `numbers` [n] on `vectors` [n, D], by the error on held-out groups."""
    unit = float(np.einsum("nd,nd->n", vectors, vectors).mean()) if len(vectors) else 1.0
    folds = np.unique(groups, return_inverse=True)[1] % FOLDS
    if len(numbers) < FEWEST or len(np.unique(folds)) < 2:
        return unit
    x = vectors.astype(np.float64)
    errors = np.zeros(len(RIDGES))
    for fold in np.unique(folds):
        held = folds == fold
        middle, mean = x[~held].mean(axis=0), numbers[~held].mean()
        own, asked = x[~held] - middle, x[held] - middle
        values, axes = np.linalg.eigh(own.T @ own)
        target, turned = axes.T @ (own.T @ (numbers[~held] - mean)), asked @ axes
        for place, ridge in enumerate(RIDGES * unit):
            predicted = turned @ (target / (np.maximum(values, 0) + ridge)) + mean
            errors[place] += float(((predicted - numbers[held]) ** 2).sum())
    return float(RIDGES[int(errors.argmin())] * unit)


def most_expected_gain(
    vectors: Float32s, known: Ints, open_: Bools, groups: Ints, count: int, *, ridge: float
) -> tuple[Ints, Floats]:
    """Up to `count` `open_` rows [n], greedily, and by how much each lowers the mean variance of a prediction, as a
    share of what it was before the first.

    With labels of rows S of X = `vectors` [n, D] and a prior of precision `ridge`, the variance of the prediction at x
    is x' A^-1 x in units of the noise, A = `ridge` I + the sum over S of x x'. One label more at x lowers the mean over
    all rows by |M^(1/2) A^-1 x|^2 / (1 + x' A^-1 x), M = X'X / n: expected variance reduction (Cohn, Ghahramani and
    Jordan 1996), which of a linear model is the Fisher criterion of BAIT (Ash et al. 2021). The numbers do not matter,
    so a batch can be chosen at once. `known` rows have labels or requests; one of each group comes first.
    """
    x = np.concatenate([vectors, np.ones((len(vectors), 1), np.float32)], axis=1)
    inverse = np.linalg.inv(ridge * np.eye(x.shape[1]) + x[known].T.astype(np.float64) @ x[known])
    moments = x.T.astype(np.float64) @ x / max(1, len(x))
    rows = np.flatnonzero(open_)
    own = x[rows]
    _, group = np.unique(groups, return_inverse=True)
    turns = np.bincount(group[known], minlength=int(group.max(initial=-1)) + 1)
    turns = np.minimum(turns, 1)
    variance = np.einsum("nd,nd->n", own @ inverse.astype(np.float32), own).astype(np.float64)
    reach = np.einsum("nd,nd->n", own @ (inverse @ moments @ inverse).astype(np.float32), own).astype(np.float64)
    whole = float((inverse * moments).sum())
    left, found, gains = np.ones(len(rows), np.bool_), list[int](), list[float]()
    mine, usable = group[rows], np.zeros(len(rows), np.bool_)
    while len(found) < min(count, len(rows)):
        if not usable.any():
            usable = left & (turns[mine] == turns[mine][left].min())
        gain = np.where(usable, reach / (1 + variance), -1.0)
        best = int(gain.argmax())
        found.append(best)
        gains.append(float(gain[best]) / whole)
        left[best], usable[mine == mine[best]] = False, False
        turns[mine[best]] += 1
        one = own[best].astype(np.float64)
        direction = inverse @ one
        scale = 1 + float(one @ direction)
        both = np.stack([direction, inverse @ (moments @ direction)], axis=1).astype(np.float32)
        along, across = (own @ both).T.astype(np.float64)
        energy = float(direction @ moments @ direction)
        variance = np.maximum(variance - along**2 / scale, 0)
        reach = np.maximum(reach - along * (2 * across / scale - along * (energy / scale**2)), 0)
        inverse -= np.outer(direction, direction) / scale
    return rows[np.asarray(found, np.int64)], np.asarray(gains)
