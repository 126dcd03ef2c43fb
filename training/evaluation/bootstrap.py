"""Intervals of metrics that are no sums over groups, from resamples of whole groups (Davison & Hinkley 1997, 3.8)."""

from dataclasses import replace

import numpy as np

from curation.arrays import Bools, Floats, Ints
from training.evaluation.intervals import NOT_ENOUGH_DATA, Figure, share_of_variance
from training.evaluation.metrics import RankingSums

__all__ = ["RESAMPLES", "SEED", "average_precision"]

RESAMPLES = 200
SEED = 0
BLOCK = 1_000_000
"""Labels of all resamples that are held at once."""


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
    known = np.isfinite(scores)
    positive, scores, weights = positive[known], scores[known], weights[known]
    value = RankingSums.of(positive, scores, weights).average_precision()
    if value is None:
        return NOT_ENOUGH_DATA
    names, codes = np.unique(groups[known], return_inverse=True)
    own = np.bincount(codes, weights * positive, len(names))
    variance = _variance(positive, scores, weights, codes, len(names))
    holding, effective = int((own > 0).sum()), float(own.sum() ** 2 / (own**2).sum())
    figure = share_of_variance(value, variance, effective, n=holding, groups=holding)
    return replace(figure, n=int(positive.sum()))


def _variance(positive: Bools, scores: Floats, weights: Floats, codes: Ints, groups: int) -> float:
    """The variance over resamples that draw as many groups, with replacement; those without the class are left out.

    Only the scores of labels of the class count, so all labels from one of these scores down to the next are one part.
    """
    from scipy import sparse

    order = np.argsort(-scores, kind="stable")
    codes, total = codes[order], weights[order]
    own = total * positive[order]
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])  # the last label of each distinct score
    ends = ends[np.diff(np.cumsum(own)[ends], prepend=0.0) > 0]
    part, used = np.searchsorted(ends, np.arange(len(codes))), np.arange(len(codes)) <= ends[-1]
    shape = (len(ends), groups)
    own_of, total_of = (sparse.csr_array((w[used], (part[used], codes[used])), shape=shape) for w in (own, total))
    generator, found = np.random.default_rng(SEED), list[Floats]()
    size = max(1, min(RESAMPLES, BLOCK // max(len(ends), groups)))
    for first in range(0, RESAMPLES, size):
        drawn = generator.integers(0, groups, (min(size, RESAMPLES - first), groups))
        drawn += groups * np.arange(len(drawn))[:, None]
        counts = np.bincount(drawn.ravel(), minlength=groups * len(drawn)).reshape(len(drawn), groups)
        times = np.ascontiguousarray(counts.T, np.float64)
        gain = own_of @ times
        reached, predicted = np.cumsum(gain, axis=0), np.cumsum(total_of @ times, axis=0)
        some = reached[-1] > 0
        precision = reached / np.maximum(predicted, 1e-300)
        found.append((gain * precision).sum(axis=0)[some] / reached[-1, some])
    each = np.concatenate(found)
    return float(np.var(each)) if len(each) else 0.0
