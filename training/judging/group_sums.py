"""Sums of two runs over the same labels, by group: any metric of either run follows from them, and of any mixture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from curation.arrays import Bools, Floats, Ints
from training.evaluation.metrics import ConfusionSums, MeanSums, RankingSums

__all__ = ["PairedSums", "Value"]

Value = Callable[[Floats], Floats]
"""The metric [...] of sums [..., K]; NaN where the sums do not define it."""

MOST_SCORES = 256
"""Scores of a class that a ranking distinguishes; more are merged into so many equally common ones."""

ROUNDING = 1e-9

Terms = Callable[[ConfusionSums], tuple[Floats, Floats]]
"""For each cell [m] of confusion sums, how often it counts as a hit and in the total."""


@dataclass(frozen=True, kw_only=True)
class PairedSums:
    """K sums of the labels of each of G groups, under the predictions of two runs: sparse `first` and `second` [G, K].

    Sums of whole groups add up, so a run in which some groups are predicted by the first run and the others by the
    second has the metric `value` of the mixed sums. `sign` is 1 where more is better, -1 where less is better.
    """

    groups: Ints
    first: sparse.csr_array
    second: sparse.csr_array
    value: Value
    sign: int = 1
    exact: tuple[float, float] | None = None
    """The metric of both runs where the sums give it only nearly."""

    @classmethod
    def of_shares(cls, first: ConfusionSums, second: ConfusionSums, terms: Terms) -> Self:
        """A share, such as accuracy: the weight of hits over the weight of all, both counted by `terms`."""
        parts = []
        for sums in (first, second):
            hits, times = terms(sums)
            parts.append((sums.groups, [sums.weight * hits, sums.weight * times]))
        return cls._of_entries(parts, ratio)

    @classmethod
    def of_errors(cls, first: MeanSums, second: MeanSums) -> Self:
        """The mean of an error, such as the mean absolute error; less is better."""
        return cls.of_means(first, second, sign=-1)

    @classmethod
    def of_means(cls, first: MeanSums, second: MeanSums, *, sign: int) -> Self:
        """A mean of which more is better (`sign` 1), or less (-1)."""
        parts = [(sums.groups, [sums.total, sums.weight]) for sums in (first, second)]
        return cls._of_entries(parts, ratio, sign=sign)

    @classmethod
    def of_recalls(cls, first: ConfusionSums, second: ConfusionSums) -> Self:
        """Balanced accuracy: the mean, over the classes that occur, of the share that is predicted right."""
        parts = []
        for sums in (first, second):
            own = [sums.truth == code for code in np.unique(first.truth)]
            right = sums.truth == sums.predicted
            columns = [sums.weight * part for mine in own for part in (mine & right, mine)]
            parts.append((sums.groups, columns))
        return cls._of_entries(parts, mean_of_ratios)

    @classmethod
    def of_rankings(cls, positive: Bools, scores: tuple[Floats, Floats], weights: Floats, groups: Ints) -> Self:
        """Average precision of one class over labels [n], from the score [n] that each run gives it.

        It depends only on how many labels are ranked at or above each label of the class, so the sums are exact for up
        to 256 distinct scores of these.
        """
        edges = np.unique(np.r_[scores[0][positive], scores[1][positive]])
        if len(edges) > MOST_SCORES:
            edges = np.unique(np.quantile(edges, np.linspace(0, 1, MOST_SCORES)))
        names, codes = np.unique(groups, return_inverse=True)
        bins, parts = len(edges) + 1, []
        for score in scores:
            place = len(edges) - np.searchsorted(edges, score, side="right")  # the highest scores first, the rest last
            columns = np.r_[place[positive], bins + place]
            entries = np.r_[weights[positive], weights], (np.r_[codes[positive], codes], columns)
            parts.append(sparse.coo_array(entries, shape=(len(names), 2 * bins)).tocsr())
        exact = [RankingSums.of(positive, score, weights).average_precision() for score in scores]
        assert exact[0] is not None
        assert exact[1] is not None
        return cls(groups=names, first=parts[0], second=parts[1], value=average_precision, exact=(exact[0], exact[1]))

    @classmethod
    def of_means_over(cls, parts: Sequence["PairedSums"], weights: Sequence[float]) -> Self:
        """The weighted sum of several metrics, each times its sign: more is better."""
        groups = np.unique(np.concatenate([part.groups for part in parts]))
        ends = np.cumsum([0, *(part.first.shape[1] for part in parts)]).tolist()

        def value(sums: Floats) -> Floats:
            each = [
                weight * part.sign * part.value(sums[..., start:end])
                for part, weight, start, end in zip(parts, weights, ends[:-1], ends[1:], strict=True)
            ]
            return np.asarray(np.sum(each, axis=0), np.float64)

        def stacked(name: str) -> sparse.csr_array:
            return sparse.hstack([_spread(getattr(part, name), part.groups, groups) for part in parts], format="csr")

        both = np.array([np.multiply(part.values(), part.sign) for part in parts]).T @ np.asarray(weights)
        return cls(
            groups=groups, first=stacked("first"), second=stacked("second"), value=value,
            exact=(float(both[0]), float(both[1])),
        )  # fmt: skip

    @classmethod
    def _of_entries(cls, runs: Sequence[tuple[Ints, list[Floats]]], value: Value, *, sign: int = 1) -> Self:
        """From the entries of each run: their groups, and their addends to every column."""
        names = np.unique(np.concatenate([groups for groups, _ in runs]))
        parts = []
        for groups, columns in runs:
            codes = np.searchsorted(names, groups)
            by_group = [np.bincount(codes, column, len(names)) for column in columns]
            parts.append(sparse.csr_array(np.stack(by_group, axis=1)))
        return cls(groups=names, first=parts[0], second=parts[1], value=value, sign=sign)

    def values(self) -> tuple[float, float]:
        """The metric of the first and of the second run; NaN where it is undefined."""
        if self.exact is not None:
            return self.exact
        first, second = (self.value(part.sum(axis=0)[None, :])[0] for part in (self.first, self.second))
        return float(first), float(second)


def ratio(sums: Floats) -> Floats:
    """The first sum over the second [..., 2]; NaN where the second is 0."""
    return _over(sums[..., 0], sums[..., 1])


def mean_of_ratios(sums: Floats) -> Floats:
    """The mean of the ratios of sums [..., 2 C], hits and total alternating, over those with a total."""
    hits, totals = sums[..., 0::2], sums[..., 1::2]
    found = totals > 0
    shares = np.where(found, hits / np.where(found, totals, 1.0), 0.0)
    return _over(shares.sum(axis=-1), found.sum(axis=-1).astype(np.float64))


def average_precision(sums: Floats) -> Floats:
    """Average precision of sums [..., 2 B]: weight of the class by falling score, then weight of all labels."""
    bins = sums.shape[-1] // 2
    gain = sums[..., :bins]
    found, predicted = np.cumsum(gain, axis=-1), np.cumsum(sums[..., bins:], axis=-1)
    precision = np.where(predicted > 0, found / np.where(predicted > 0, predicted, 1.0), 0.0)
    return _over((gain * precision).sum(axis=-1), found[..., -1])


def _over(hits: Floats, totals: Floats) -> Floats:
    found = totals > ROUNDING  # weights are at least 1, and sums of exchanged groups are rounded
    return np.where(found, hits / np.where(found, totals, 1.0), np.nan)


def _spread(part: sparse.csr_array, own: Ints, groups: Ints) -> sparse.csr_array:
    """Rows of the groups `own` at their places among all `groups`."""
    made = part.tocoo()
    rows = np.searchsorted(groups, own)[made.row]
    return sparse.coo_array((made.data, (rows, made.col)), shape=(len(groups), part.shape[1])).tocsr()
