"""Means over classes of figures that share their images, with intervals over groups by linearisation.

The mean of K ratios or average precisions is a smooth function of the sums over groups. Its variance is that of its
influence on each group, summed over the classes (Deville 1999, "Variance estimation for complex statistics"): an image
with several classes counts once; nothing is resampled.
"""

from collections.abc import Sequence

import numpy as np

from curation.arrays import Bools, Floats, Ints
from training.evaluation.intervals import NOT_ENOUGH_DATA, Figure, share_of_variance
from training.evaluation.metrics import ConfusionSums, RankingSums

__all__ = ["macro_f1", "mean_average_precision", "precision_influence"]


def mean_average_precision(known: Bools, there: Bools, scores: Floats, weights: Floats, groups: Ints) -> Figure:
    """The mean over K classes of the average precision, over images [n] with a 95% interval over groups.

    `known`, `there` and `scores` are [n, K]: whether somebody looked for the class, whether it is there, and how
    probable it was (NaN: none). Classes that are nowhere there are left out; the value is None without any.
    """
    influence, values = np.zeros(len(weights)), list[float]()
    for code in range(known.shape[1]):
        mine = np.flatnonzero(known[:, code] & np.isfinite(scores[:, code]))
        positive = there[mine, code]
        if not positive.any():
            continue
        value = RankingSums.of(positive, scores[mine, code], weights[mine]).average_precision()
        assert value is not None
        values.append(value)
        influence[mine] += precision_influence(positive, scores[mine, code], weights[mine])
    if not values:
        return NOT_ENOUGH_DATA
    return _of_influence(float(np.mean(values)), influence / len(values), weights * there.any(axis=1), groups)


def precision_influence(positive: Bools, scores: Floats, weights: Floats) -> Floats:
    """How the average precision of labels [n] of one class moves with the share of each: its influence, summing to 0.

    A label moves the precision at each positive that is ranked at or below it, and a positive adds its own precision.
    """
    _, rank = np.unique(-scores, return_inverse=True)
    hits, total = (np.bincount(rank, part) for part in (weights * positive, weights))
    reached, predicted = np.cumsum(hits), np.cumsum(total)
    precision, objects = reached / np.maximum(predicted, 1e-300), reached[-1]
    value = float((hits * precision).sum() / objects)
    per, moved = hits / np.maximum(predicted, 1e-300), hits * precision / np.maximum(predicted, 1e-300)
    below, lost = (np.cumsum(part[::-1])[::-1] for part in (per, moved))
    own = np.where(positive, precision[rank] - value + below[rank], 0.0)
    return np.asarray(weights * (own - lost[rank]) / objects, np.float64)


def macro_f1(sums: Sequence[ConfusionSums]) -> Figure:
    """The mean of the F1 of binary confusion sums, one for each class, with a 95% interval over groups."""
    if not sums:
        return NOT_ENOUGH_DATA
    groups = np.unique(np.concatenate([part.groups for part in sums]))
    influence, own, values = np.zeros(len(groups)), np.zeros(len(groups)), list[float]()
    for part in sums:
        at = np.searchsorted(groups, part.groups)
        times = (part.truth == 1).astype(np.float64) + (part.predicted == 1)
        hits = np.bincount(at, part.weight * np.where(times == 2, times, 0.0), len(groups))
        totals = np.bincount(at, part.weight * times, len(groups))
        value = float(hits.sum() / totals.sum()) if totals.sum() else 0.0
        values.append(value)
        influence += (hits - value * totals) / max(float(totals.sum()), 1e-300)
        own += np.bincount(at, part.weight * (part.truth == 1), len(groups))
    return _of_influence(float(np.mean(values)), influence / len(values), own, groups)


def _of_influence(value: float, influence: Floats, own: Floats, groups: Ints) -> Figure:
    """The figure of a mean share: Wilson's interval at the effective size that the variance of the influence gives, at
    most one for each group that holds (`own` > 0) any of the classes."""
    names, codes = np.unique(groups, return_inverse=True)
    by_group, held = (np.bincount(codes, part, len(names)) for part in (influence, own))
    variance = len(names) / max(1, len(names) - 1) * float((by_group**2).sum())
    holding, effective = int((held > 0).sum()), float(held.sum() ** 2 / max(float((held**2).sum()), 1e-300))
    return share_of_variance(value, variance, effective, n=max(1, holding), groups=holding)
