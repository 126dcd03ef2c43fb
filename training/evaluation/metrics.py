"""Metrics of predictions, computed from sums that merge.

Each class of sums is built from the known labels of one cell (a task on a slice) and keeps what its metrics need, by
group where a metric has an interval. `a + b` is the sums of the union of two disjoint cells, so a cell may be computed
in parts. An unknown label (NaN) adds exactly nothing. Weights are inverse propensities. A metric that the data do not
define (no label of the class, no prediction of it) has the value None: "not enough data" is a result of its own.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from curation.arrays import Bools, Floats, Ints
from training.evaluation.intervals import (
    NOT_ENOUGH_DATA,
    Figure,
    mean_of_shares,
    mean_of_sums,
    share_of_sums,
)

__all__ = ["BINS", "CalibrationSums", "ConfusionSums", "MeanSums", "RankingSums", "ReliabilityBin", "root"]


BINS = 10
"""Equally wide bins of a predicted probability."""


@dataclass(frozen=True, kw_only=True)
class ConfusionSums:
    """Weight and number of labels for each (group, true class, predicted class) that occurs: arrays [m].

    >>> truth, predicted = np.array([0.0, 0.0, 1.0, np.nan]), np.array([0.0, 1.0, 1.0, 1.0])
    >>> sums = ConfusionSums.of(2, truth, predicted, np.ones(4), np.arange(4))
    >>> sums.counts().tolist()
    [[1, 1], [0, 1]]
    >>> sums.precision(1).value, sums.recall(1).value
    (0.5, 1.0)
    """

    classes: int
    groups: Ints
    truth: Ints
    predicted: Ints
    weight: Floats
    count: Floats

    @classmethod
    def of(cls, classes: int, truth: Floats, predicted: Floats, weights: Floats, groups: Ints) -> Self:
        """The sums of labels [n]: true and predicted class codes (NaN: unknown), weights and group codes."""
        known = np.isfinite(truth) & np.isfinite(predicted)
        codes = truth[known].astype(np.int64), predicted[known].astype(np.int64)
        return cls._summed(classes, groups[known], *codes, weights[known], np.ones(int(known.sum())))

    @classmethod
    def _summed(cls, classes: int, groups: Ints, truth: Ints, predicted: Ints, weight: Floats, count: Floats) -> Self:
        cells, codes = np.unique((groups * classes + truth) * classes + predicted, return_inverse=True)
        return cls(
            classes=classes, groups=cells // classes**2, truth=cells // classes % classes, predicted=cells % classes,
            weight=_summed(codes, weight), count=_summed(codes, count),
        )  # fmt: skip

    def __add__(self, other: Self) -> Self:
        names = ("groups", "truth", "predicted", "weight", "count")
        return self._summed(self.classes, *(np.r_[getattr(self, name), getattr(other, name)] for name in names))

    def matrix(self) -> Floats:
        """Weight of each (true class, predicted class) [C, C]."""
        return self._matrix(self.weight)

    def counts(self) -> Ints:
        """Number of labels of each (true class, predicted class) [C, C]."""
        return self._matrix(self.count).astype(np.int64)

    def accuracy(self) -> Figure:
        """Share of labels that are predicted right."""
        return self._share((self.truth == self.predicted).astype(np.float64), np.ones(len(self.truth)))

    def balanced_accuracy(self) -> Figure:
        """Mean recall of the classes that occur."""
        recalls = [self.recall(code) for code in np.unique(self.truth).tolist()]
        return mean_of_shares(recalls, n=int(self.count.sum()), groups=len(np.unique(self.groups)))

    def recall(self, code: int) -> Figure:
        """Share of the labels of class `code` that are predicted as it."""
        return self._share((self.predicted == code).astype(np.float64), (self.truth == code).astype(np.float64))

    def precision(self, code: int) -> Figure:
        """Share of the predictions of class `code` that are right."""
        return self._share((self.truth == code).astype(np.float64), (self.predicted == code).astype(np.float64))

    def f1(self, code: int) -> Figure:
        """2 TP / (2 TP + FP + FN) of class `code`: a share in which a true positive counts twice."""
        times = (self.truth == code).astype(np.float64) + (self.predicted == code)
        return self._share((times == 2).astype(np.float64), times)

    def _share(self, hits: Floats, times: Floats) -> Figure:
        """The share of `hits` among the cells, each counted `times` times; both are [m]."""
        if not len(self.groups):
            return NOT_ENOUGH_DATA
        weight = self.weight * times
        hit, total = _summed(self._group_codes, weight * hits), _summed(self._group_codes, weight)
        return share_of_sums(hit, total, int(self.count[times > 0].sum()))

    @cached_property
    def _group_codes(self) -> Ints:
        """The group of each cell [m], numbered from 0 without gaps."""
        return np.unique(self.groups, return_inverse=True)[1]

    def _matrix(self, values: Floats) -> Floats:
        size = self.classes**2
        cells = np.bincount(self.truth * self.classes + self.predicted, values, minlength=size)
        return np.asarray(cells.reshape(self.classes, self.classes), np.float64)


@dataclass(frozen=True, kw_only=True)
class RankingSums:
    """For one class: weight of its labels and of all labels at each distinct score, the highest first; arrays [m].

    >>> sums = RankingSums.of(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]), np.ones(3))
    >>> round(sums.average_precision(), 4)
    0.8333
    """

    scores: Floats
    positive: Floats
    total: Floats

    @classmethod
    def of(cls, positive: Bools, scores: Floats, weights: Floats) -> Self:
        """The sums of known labels [n]: whether each is of the class, its score (NaN: none) and its weight."""
        known = np.isfinite(scores)
        return cls._summed(scores[known], (weights * positive)[known], weights[known])

    @classmethod
    def _summed(cls, scores: Floats, positive: Floats, total: Floats) -> Self:
        lowered, codes = np.unique(-scores, return_inverse=True)
        return cls(scores=-lowered, positive=_summed(codes, positive), total=_summed(codes, total))

    def __add__(self, other: Self) -> Self:
        return self._summed(
            np.r_[self.scores, other.scores], np.r_[self.positive, other.positive], np.r_[self.total, other.total]
        )

    def curve(self) -> tuple[Floats, Floats]:
        """Recall [m] and precision [m] when every label with at least `scores` [m] is predicted as the class."""
        found, predicted = np.cumsum(self.positive), np.cumsum(self.total)
        if not len(found) or found[-1] == 0:
            return np.empty(0), np.empty(0)
        return found / found[-1], found / predicted

    def average_precision(self) -> float | None:
        """Sum of precision times the gain in recall over the distinct scores; None without a label of the class."""
        recall, precision = self.curve()
        if not len(recall):
            return None
        return float((np.diff(recall, prepend=0.0) * precision).sum())

    def best_f1(self) -> tuple[float, float] | None:
        """The score to predict the class from on that has the highest F1, and this F1; None without a label of it.

        The threshold is halfway to the next lower score, so it does not depend on the last bit of one score.
        """
        recall, precision = self.curve()
        if not len(recall):
            return None
        f1 = 2 * recall * precision / np.maximum(recall + precision, 1e-300)
        best = int(f1.argmax())
        below = self.scores[best + 1] if best + 1 < len(self.scores) else 0.0
        return float((self.scores[best] + below) / 2), float(f1[best])

    def threshold_at(self, predicted: float) -> float:
        """The score from which on the weight `predicted`, or the nearest to it, is predicted as the class."""
        totals = np.r_[0.0, np.cumsum(self.total)]
        nearest = int(np.abs(totals - predicted).argmin())
        return float(np.r_[np.inf, self.scores][nearest])


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """One bin of a reliability curve: the mean predicted probability, and how often the prediction came true."""

    predicted: float
    observed: Figure
    weight: float


@dataclass(frozen=True, kw_only=True)
class CalibrationSums:
    """For each (group, bin of the predicted probability) that occurs, arrays [m]: sums over its labels.

    `weight` sums weights, `predicted` the predicted probabilities, `true` the weights of predictions that came true.
    """

    groups: Ints
    bins: Ints
    weight: Floats
    predicted: Floats
    true: Floats
    count: Floats

    @classmethod
    def of(cls, true: Bools, probabilities: Floats, weights: Floats, groups: Ints) -> Self:
        """The sums of known labels [n]: whether what was predicted with `probabilities` (NaN: none) is true."""
        known = np.isfinite(probabilities)
        chance, weight = probabilities[known], weights[known]
        bins = np.clip((chance * BINS).astype(np.int64), 0, BINS - 1)
        return cls._summed(groups[known], bins, weight, weight * chance, weight * true[known], np.ones(len(weight)))

    @classmethod
    def _summed(cls, groups: Ints, bins: Ints, weight: Floats, predicted: Floats, true: Floats, count: Floats) -> Self:
        cells, codes = np.unique(groups * BINS + bins, return_inverse=True)
        return cls(
            groups=cells // BINS, bins=cells % BINS, weight=_summed(codes, weight),
            predicted=_summed(codes, predicted), true=_summed(codes, true), count=_summed(codes, count),
        )  # fmt: skip

    def __add__(self, other: Self) -> Self:
        names = ("groups", "bins", "weight", "predicted", "true", "count")
        return self._summed(*(np.r_[getattr(self, name), getattr(other, name)] for name in names))

    def curve(self) -> list[ReliabilityBin]:
        """The bins that hold a label, the least probable first."""
        return [self._bin(self.bins == code) for code in np.unique(self.bins).tolist()]

    def error(self) -> float | None:
        """Expected calibration error: the weighted mean of |observed - predicted| over the bins; None without data."""
        if not len(self.bins):
            return None
        _, codes = np.unique(self.bins, return_inverse=True)
        gaps = np.abs(_summed(codes, self.true - self.predicted))
        return float(gaps.sum() / self.weight.sum())

    def _bin(self, here: Bools) -> ReliabilityBin:
        weight = float(self.weight[here].sum())
        observed = share_of_sums(self.true[here], self.weight[here], int(self.count[here].sum()))
        return ReliabilityBin(predicted=float(self.predicted[here].sum()) / weight, observed=observed, weight=weight)


@dataclass(frozen=True, kw_only=True)
class MeanSums:
    """Weighted sum of a value, weight and number of labels of each group: arrays [G].

    The mean of |error| is the MAE, the root of the mean of its square the RMSE, the mean of `brier` the Brier score.

    >>> errors = np.array([1.0, -3.0, np.nan])
    >>> MeanSums.of(np.abs(errors), np.ones(3), np.arange(3)).mean().value
    2.0
    >>> round(root(MeanSums.of(errors**2, np.ones(3), np.arange(3)).mean()).value, 4)
    2.2361
    """

    groups: Ints
    total: Floats
    weight: Floats
    count: Floats

    @classmethod
    def of(cls, values: Floats, weights: Floats, groups: Ints) -> Self:
        """The sums of `values` [n] (NaN: unknown)."""
        known = np.isfinite(values)
        weight = weights[known]
        return cls._summed(groups[known], values[known] * weight, weight, np.ones(len(weight)))

    @classmethod
    def brier(cls, truth: Floats, probabilities: Floats, weights: Floats, groups: Ints) -> Self:
        """The sums of the squared distance between `probabilities` [n, C] and the true class [n] (NaN: unknown)."""
        known = np.isfinite(truth)
        right = np.zeros_like(probabilities)
        right[known, truth[known].astype(np.int64)] = 1.0
        return cls.of(np.where(known, ((probabilities - right) ** 2).sum(axis=1), np.nan), weights, groups)

    @classmethod
    def _summed(cls, groups: Ints, total: Floats, weight: Floats, count: Floats) -> Self:
        cells, codes = np.unique(groups, return_inverse=True)
        return cls(
            groups=cells, total=_summed(codes, total), weight=_summed(codes, weight), count=_summed(codes, count)
        )

    def __add__(self, other: Self) -> Self:
        names = ("groups", "total", "weight", "count")
        return self._summed(*(np.r_[getattr(self, name), getattr(other, name)] for name in names))

    def mean(self) -> Figure:
        """The weighted mean of the values, with Student's interval over groups."""
        return mean_of_sums(self.total, self.weight, int(self.count.sum()))


def root(figure: Figure) -> Figure:
    """The square root of a figure and of its interval, such as the RMSE of a mean squared error."""
    value, low, high = (
        None if edge is None else max(0.0, edge) ** 0.5 for edge in (figure.value, figure.low, figure.high)
    )
    return Figure(value=value, low=low, high=high, n=figure.n, groups=figure.groups)


def _summed(codes: Ints, values: Floats) -> Floats:
    """`values` [n] summed by `codes` [n], which number the cells from 0 on."""
    return np.asarray(np.bincount(codes, values), np.float64)
