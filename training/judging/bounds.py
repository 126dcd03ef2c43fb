"""How much worse the second of two runs may be: upper bounds of a drop that hold for bursts that fail together.

A drop is the mean loss (what the second run does worse) minus the mean gain (what it does better), on the same labels.
Each mean has Wilson's interval at the effective sample size of its linearised variance over groups, with a floor: the
variance is at least that of groups with an intraclass correlation of 0.6, because few failing bursts show too little of
theirs; where nothing was lost, each group counts once. The two are joined by the method of variance estimates recovery
(MOVER; Zou & Donner 2008, with the correlation of the two over groups), and so are the classes of balanced accuracy.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Self

import numpy as np
from scipy import sparse

from curation.arrays import Floats, Ints
from training.judging.group_sums import PairedSums

__all__ = ["ONE_SIDED", "TWO_SIDED", "Bound", "effective_labels"]

ONE_SIDED: Final = 1.6448536269514722
"""The 95% quantile of the normal distribution."""
TWO_SIDED: Final = 1.959963984540054

LIKELY: Final = 0.8416212335729143
"""The 80% quantile."""

ICC: Final = 0.6
"""Intraclass correlation of the design-effect floor."""
ROUNDING: Final = 1e-12
BLOCK: Final = 4_000_000
"""Numbers held at once while groups are left out one by one."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A drop, and how far the true one may be from it.

    `below` and `above` give the distance if there were so many times as many groups like these (1: as it is).
    `residuals` [G] are the shares of the groups `groups` [G] in the deviation of the drop.
    """

    drop: float
    below: Callable[[float], float]
    above: Callable[[float], float]
    groups: Ints
    residuals: Floats

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.drop - self.below(1.0)

    @property
    def high(self) -> float:
        """The upper end: the drop is not larger, unless by the chance that the quantile leaves."""
        return self.drop + self.above(1.0)

    def groups_for(self, margin: float) -> int:
        """How many groups like these would show, in four of five cases, that two equal runs differ by less.

        `margin` > 0 is in the unit of the drop.
        """
        spread = float((self.residuals**2).sum()) ** 0.5

        def enough(times: float) -> bool:
            return bool(self.above(times) + LIKELY * spread / times**0.5 < margin)

        low, high = 0.0, 1.0
        while not enough(high):
            low, high = high, 2 * high
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return int(np.ceil(high * len(self.groups)))

    @classmethod
    def of_losses(
        cls, worse: Floats, weights: Floats, groups: Ints, *, z: float, scale: float = 1.0, rarest: float = 0.0
    ) -> Self:
        """The bound of the mean of `worse` [n]: by how much the second run is worse (negative: better) on each label.

        No value is above `scale`. `rarest` is what a failing burst may cost on each of its labels: the bound reaches as
        far as a frequency of such bursts at which none would be seen.
        """
        names, codes = np.unique(groups, return_inverse=True)
        unseen = np.inf if rarest else None
        loss, gain = (_Mean.of(np.maximum(sign * worse, 0.0), weights, codes, scale, unseen) for sign in (1, -1))
        correlation = _correlation(loss.residuals, gain.residuals)

        def distance(falls: _Mean, rises: _Mean, times: float) -> float:
            seen = _joined(falls.ends(z, times)[1], rises.ends(z, times)[0], correlation)
            return _joined(seen, rarest * z**2 / (falls.groups * times + z**2), 0.0)

        return cls(
            drop=loss.mean - gain.mean, below=partial(distance, gain, loss), above=partial(distance, loss, gain),
            groups=names, residuals=loss.residuals - gain.residuals,
        )  # fmt: skip

    @classmethod
    def of_parts(cls, parts: Sequence["Bound"], weights: Sequence[float]) -> Self:
        """The bound of the sum of drops with `weights` >= 0, of disjoint labels or of different tasks.

        Drops that rise together, over groups, add up; others are joined as independent ones.
        """
        groups = np.unique(np.concatenate([part.groups for part in parts]))
        residuals = np.zeros((len(parts), len(groups)))
        for row, part, weight in zip(residuals, parts, weights, strict=True):
            row[np.searchsorted(groups, part.groups)] = weight * part.residuals
        together = np.array([[max(0.0, _correlation(one, other)) for other in residuals] for one in residuals])
        np.fill_diagonal(together, 1.0)

        def distance(ways: Sequence[Callable[[float], float]], times: float) -> float:
            gaps = np.array([weight * way(times) for weight, way in zip(weights, ways, strict=True)])
            return float(np.sqrt(gaps @ together @ gaps))

        return cls(
            drop=float(np.dot(weights, [part.drop for part in parts])), groups=groups, residuals=residuals.sum(axis=0),
            below=partial(distance, [part.below for part in parts]),
            above=partial(distance, [part.above for part in parts]),
        )  # fmt: skip

    @classmethod
    def of_sums(cls, sums: PairedSums, *, z: float, effective: float) -> Self:
        """The bound for any metric between 0 and 1 of which more is better, such as F1 or average precision.

        Each run's value has Wilson's interval at the effective size of its jackknife variance over groups, at most
        `effective`; the two are joined with half of their correlation.
        """
        first, second = sums.values()
        pulls = [_pulls(sums, part) for part in (sums.first, sums.second)]
        sizes = [_size(value, pull, effective) for value, pull in zip((first, second), pulls, strict=True)]
        half = _correlation(*pulls) / 2

        def distance(falling: int, times: float) -> float:
            ends = [_gaps(value, size * times, z) for value, size in zip((first, second), sizes, strict=True)]
            return _joined(ends[1 - falling][0], ends[falling][1], half)

        return cls(
            drop=first - second, below=partial(distance, 1), above=partial(distance, 0), groups=sums.groups,
            residuals=pulls[0] - pulls[1],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Mean:
    """A mean of values between 0 and `scale`, its residuals by group [G], effective size, and groups it counts as."""

    mean: float
    scale: float
    residuals: Floats
    size: float
    groups: float

    @classmethod
    def of(cls, values: Floats, weights: Floats, codes: Ints, scale: float, unseen: float | None) -> Self:
        """`unseen` is the size where no value is above 0; by default the number of groups."""
        own = np.bincount(codes, weights)
        total = float(own.sum())
        mean = float((values * weights).sum()) / total
        residuals = (np.bincount(codes, values * weights) - mean * own) / total
        labels, groups = total**2 / float((weights**2).sum()), total**2 / float((own**2).sum())
        floor = float((weights * (values - mean) ** 2).sum()) / total / labels * (1 + (labels / groups - 1) * ICC)
        count = len(own)
        variance = max(floor, count / max(1, count - 1) * float((residuals**2).sum()))
        least = groups if unseen is None else unseen
        size = mean * (scale - mean) / variance if variance > ROUNDING * scale**2 else least
        return cls(mean=mean, scale=scale, residuals=residuals, size=size, groups=groups)

    def ends(self, z: float, times: float) -> tuple[float, float]:
        """How far Wilson's interval reaches below and above the mean, with so many times as many groups."""
        below, above = _gaps(self.mean / self.scale, self.size * times, z)
        return below * self.scale, above * self.scale


def effective_labels(weights: Floats, groups: Ints) -> float:
    """How many independent labels the labels [n] of some groups count as, at the design effect of the floor."""
    own = np.bincount(np.unique(groups, return_inverse=True)[1], weights)
    labels, count = (float(weights.sum() ** 2 / (part**2).sum()) for part in (weights, own))
    return labels / (1 + (labels / count - 1) * ICC)


def _gaps(share: float, size: float, z: float) -> tuple[float, float]:
    """How far Wilson's interval of a share reaches below and above it."""
    centre = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * (share * (1 - share) / size + z**2 / (4 * size**2)) ** 0.5
    return max(0.0, share - max(0.0, centre - half)), max(0.0, min(1.0, centre + half) - share)


def _size(value: float, pulls: Floats, effective: float) -> float:
    variance = float((pulls**2).sum())
    size = value * (1 - value) / variance if variance > ROUNDING else effective
    return min(effective, size) if size > 0 else effective


def _joined(one: float, other: float, correlation: float) -> float:
    return float(max(0.0, one**2 + other**2 - 2 * correlation * one * other) ** 0.5)


def _correlation(one: Floats, other: Floats) -> float:
    size = float((one**2).sum() * (other**2).sum()) ** 0.5
    return float((one * other).sum()) / size if size > 0 else 0.0


def _pulls(sums: PairedSums, run: sparse.csr_array) -> Floats:
    """By how much each group [G] pulls the metric of one run: the sum of squares is the jackknife variance."""
    left_out = np.concatenate(list(_left_out(sums, run)))
    whole = float(sums.value(np.asarray(run.sum(axis=0))[None, :])[0])
    left_out = np.where(np.isfinite(left_out), left_out, whole)
    count = len(left_out)
    return np.asarray((left_out.mean() - left_out) * ((count - 1) / count) ** 0.5, np.float64)


def _left_out(sums: PairedSums, run: sparse.csr_array) -> Iterator[Floats]:
    """The metric of one run without each group, in blocks."""
    total, size = np.asarray(run.sum(axis=0)), max(1, BLOCK // run.shape[1])
    for start in range(0, run.shape[0], size):
        yield sums.value(total - run[start : start + size].toarray())
