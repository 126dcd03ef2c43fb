"""Labels that are likely wrong: what predictions that did not see them say instead, burst by burst.

Frames of a burst are often labelled in one go, so they are wrong together: labels of one class in one group are judged
by the mean of their predicted probabilities. They are doubted where another class is likelier, and surely so where it
is as probable as it is, in the mean, among labels of that class (confident learning: Northcutt, Jiang & Chuang 2021).
"""

from dataclasses import dataclass

import numpy as np

from curation.arrays import Floats, Ints

__all__ = ["Doubt", "doubted_classes", "doubted_numbers"]

FAR = 4.0
"""A number is doubted if it is so many robust standard deviations of all residuals from its prediction."""
NORMAL = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution."""


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """The labels of one group that say the same, and what is predicted instead.

    `rows` are their positions, the most doubtful first. `given` and `suggested` are class codes, or means of numbers.
    `doubt` orders doubts of a task: the probability of the suggestion above that of the given class (-1 to 1), or the
    distance of a number in robust standard deviations. `sure` says whether the suggestion is as probable as among its
    own labels; few labels that are right are doubted so.
    """

    rows: Ints
    given: float
    suggested: float
    doubt: float
    sure: bool


def doubted_classes(given: Ints, probabilities: Floats, groups: Ints) -> list[Doubt]:
    """Doubts of class labels `given` [n] by `probabilities` [n, C] of predictions that did not see them, the surest
    first; labels of one class in one of `groups` [n] (codes) are one unit.

    >>> chances = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.1, 0.9]])
    >>> [part.rows.tolist() for part in doubted_classes(np.array([0, 0, 1, 1, 0]), chances, np.arange(5))]
    [[4]]
    """
    if not len(given):
        return []
    _, unit = np.unique(groups * probabilities.shape[1] + given, return_inverse=True)
    sizes = np.bincount(unit)
    means = np.stack([np.bincount(unit, column) for column in probabilities.T], axis=1) / sizes[:, None]
    said = given[np.unique(unit, return_index=True)[1]]
    own = means[np.arange(len(said)), said]
    usual = _usual(own, said, probabilities.shape[1])
    others = means.copy()
    others[np.arange(len(said)), said] = -1.0
    others[:, ~np.isfinite(usual)] = -1.0
    best = others.argmax(axis=1)
    chance = others[np.arange(len(said)), best]
    rows = _by_unit(unit, probabilities[np.arange(len(given)), given])
    found = [
        Doubt(
            rows=rows[number], given=float(said[number]), suggested=float(best[number]),
            doubt=float(chance[number] - own[number]), sure=bool(chance[number] >= usual[best[number]]),
        )
        for number in np.flatnonzero(chance > own).tolist()
    ]  # fmt: skip
    return sorted(found, key=lambda part: (-part.doubt, part.rows.tolist()))


def doubted_numbers(given: Floats, predicted: Floats, groups: Ints) -> list[Doubt]:
    """Doubts of numbers `given` [n] by those `predicted` [n] without them, the farthest first; all labels of one of
    `groups` [n] are one unit, judged by its median distance."""
    if not len(given):
        return []
    residual = given - predicted
    middle = float(np.median(residual))
    scale = NORMAL * float(np.median(np.abs(residual - middle)))
    if scale <= 0:
        return []
    distance = np.abs(residual - middle) / scale
    units = [rows for rows in _by_unit(groups, -distance) if np.median(distance[rows]) > FAR]
    found = [
        Doubt(
            rows=rows, given=float(given[rows].mean()), suggested=float(predicted[rows].mean()),
            doubt=float(np.median(distance[rows])), sure=True,
        )
        for rows in units
    ]  # fmt: skip
    return sorted(found, key=lambda part: (-part.doubt, part.rows.tolist()))


def _usual(own: Floats, said: Ints, classes: int) -> Floats:
    """The mean probability [C] of each class among the units that say it; infinite for a class that none says."""
    counts = np.bincount(said, minlength=classes)
    sums = np.bincount(said, own, classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def _by_unit(unit: Ints, order: Floats) -> list[Ints]:
    """The positions of each unit, by its code [n], those with the smallest `order` [n] first."""
    rows = np.lexsort((order, unit))
    return np.split(rows, np.flatnonzero(np.diff(unit[rows])) + 1)
