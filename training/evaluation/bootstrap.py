"""Intervals of metrics that are no sums over groups, from resamples of whole groups (Davison & Hinkley 1997, 3.8)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from curation.arrays import Bools, Floats, Ints
from training.evaluation.intervals import NOT_ENOUGH_DATA, Figure, share_of_variance
from training.evaluation.metrics import RankingSums

__all__ = ["RESAMPLES", "SEED", "average_precision", "average_precisions"]

RESAMPLES = 200
SEED = 0
BLOCK, LEAST = 20_000, 8
"""So many labels of all resamples are summed at once, since they fit into a processor's cache; of at least so many
resamples."""


def average_precision(positive: Bools, scores: Floats, weights: Floats, groups: Ints) -> Figure:
    """The average precision of one class over labels [n], with a 95% interval over groups.

    `positive` [n] says which labels are of the class, `scores` [n] (NaN: none) how probable it was; `groups` [n] are
    codes. Average precision is the mean, over the labels of the class, of the precision at their score: so its interval
    is Wilson's at the effective sample size that the variance over resampled groups gives, at most one
    for each group that holds the class. A perfect ranking has an interval too. The value is None without the class.

    >>> figure = average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]), np.ones(3), np.arange(3))
    >>> round(figure.value, 4), figure.low < figure.value < figure.high
    (0.8333, True)
    """
    return average_precisions(positive[:, None], scores[:, None], weights, groups)[0]


def average_precisions(positive: Bools, scores: Floats, weights: Floats, groups: Ints) -> list[Figure]:
    """`average_precision` of each of C classes over the same labels: `positive` and `scores` are [n, C].

    The groups are resampled once for all classes. A label counts where all its scores are known.
    """
    known = np.isfinite(scores).all(axis=1)
    classes, weights = list(zip(positive[known].T, scores[known].T, strict=True)), weights[known]
    names, codes = np.unique(groups[known], return_inverse=True)
    values = [RankingSums.of(*each, weights).average_precision() for each in classes]
    there = [place for place, value in enumerate(values) if value is not None]
    ranked = [_by_score(*classes[place], weights, codes, len(names)) for place in there]
    variances = dict(zip(there, _variances(ranked, len(names)), strict=True))
    return [
        NOT_ENOUGH_DATA if value is None
        else _figure(value, variances[place], each[0],
            np.asarray(np.bincount(codes, weights * each[0], len(names)), np.float64))
        for place, (value, each) in enumerate(zip(values, classes, strict=True))
    ]  # fmt: skip


def _figure(value: float, variance: float, positive: Bools, own: Floats) -> Figure:
    """The figure of an average precision; `own` is the weight of the class in each group."""
    holding, effective = int((own > 0).sum()), float(own.sum() ** 2 / (own**2).sum())
    figure = share_of_variance(value, variance, effective, n=holding, groups=holding)
    return replace(figure, n=int(positive.sum()))


def _by_score(positive: Bools, scores: Floats, weights: Floats, codes: Ints, groups: int) -> tuple[Any, Any]:
    """The weight of the class and that of all labels, by part (the highest scores first) and group: sparse arrays.

    Only the scores of labels of the class count, so all labels from one of these scores down to the next are one part.
    """
    from scipy import sparse

    order = np.argsort(-scores, kind="stable")
    codes, total, true = codes[order], weights[order], positive[order] & (weights[order] > 0)
    own = np.cumsum(np.where(true, total, 0.0))
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])  # the last label of each distinct score
    ends = np.r_[0, 1 + ends[np.diff(own[ends], prepend=0.0) > 0]]
    every, mine = slice(0, ends[-1]), np.flatnonzero(true)
    parts = (total[every], codes[every], ends), (total[mine], codes[mine], np.searchsorted(mine, ends))
    total_of, own_of = (sparse.csr_array(part, shape=(len(ends) - 1, groups)) for part in parts)
    return own_of, total_of


def _variances(ranked: Sequence[tuple[Any, Any]], groups: int) -> list[float]:
    """The variance of each class over resamples that draw as many groups, with replacement; those without the class are
    left out."""
    generator, found = np.random.default_rng(SEED), [list[Floats]() for _ in ranked]
    longest = max((own_of.shape[0] for own_of, _ in ranked), default=1)
    size = min(RESAMPLES, max(LEAST, BLOCK // max(longest, groups)))
    for first in range(0, RESAMPLES if ranked else 0, size):
        drawn = generator.integers(0, groups, (min(size, RESAMPLES - first), groups))
        drawn += groups * np.arange(len(drawn))[:, None]
        counts = np.bincount(drawn.ravel(), minlength=groups * len(drawn)).reshape(len(drawn), groups)
        times = np.ascontiguousarray(counts.T, np.float64)
        for each, (own_of, total_of) in zip(found, ranked, strict=True):
            each.append(_precisions(own_of @ times, total_of @ times))
    return [float(np.var(each)) if len(each) else 0.0 for each in map(np.concatenate, found)]


def _precisions(gain: Floats, total: Floats) -> Floats:
    """The average precision of each resample that holds the class, from the weight of the class and that of all labels
    in each part [parts, resamples]."""
    reached, predicted = np.cumsum(gain, axis=0), np.cumsum(total, axis=0)
    held, some = reached[-1].copy(), reached[-1] > 0
    reached /= np.maximum(predicted, 1e-300, out=predicted)
    reached *= gain
    return np.asarray(reached.sum(axis=0)[some] / held[some], np.float64)
