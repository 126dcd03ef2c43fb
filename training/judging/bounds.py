"""How much worse the second of two runs may be: upper bounds of a drop that hold for bursts that fail together.

A drop is the mean loss (what the second run does worse) minus the mean gain (what it does better), on the same labels.
Each mean has Wilson's interval at the effective sample size of its linearised variance over groups, with a floor: the
variance is at least that of groups with an intraclass correlation of 0.6, because few failing bursts show too little of
theirs; where nothing was lost, each group counts once. The two are joined by the method of variance estimates recovery
(MOVER; Zou & Donner 2008, with the correlation of the two over groups), and so are the classes of balanced accuracy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from scipy import sparse

from curation.arrays import Floats, Ints
from training.judging.group_sums import PairedSums

__all__ = ["ONE_SIDED", "TWO_SIDED", "Bound", "effective_labels"]

ONE_SIDED: Final = 1.6448536269514722
"""The 95% quantile of the normal distribution."""
TWO_SIDED: Final = 1.959963984540054

ICC: Final = 0.6
"""Intraclass correlation of the design-effect floor."""
ROUNDING: Final = 1e-12
BLOCK: Final = 4_000_000
"""Numbers held at once while groups are left out one by one."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A drop, how far below and above it the true one may be (`below`, `above` >= 0), and its residuals by group.

    `residuals` [G] are the groups' shares in the deviation of the drop, for the groups `groups` [G].
    """

    drop: float
    below: float
    above: float
    groups: Ints
    residuals: Floats

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.drop - self.below

    @property
    def high(self) -> float:
        """The upper end: the drop is not larger, unless by the chance that the quantile leaves."""
        return self.drop + self.above

    @classmethod
    def of_losses(
        cls, worse: Floats, weights: Floats, groups: Ints, *, z: float, scale: float = 1.0, rarest: float = 0.0
    ) -> Self:
        """The bound of the mean of `worse` [n]: by how much the second run is worse (negative: better) on each label.

        No value is above `scale`. `rarest` is what a failing burst may cost on each of its labels: the bound reaches as
        far as a frequency of such bursts at which none would be seen.
        """
        names, codes = np.unique(groups, return_inverse=True)
        loss, gain = (_Mean.of(np.maximum(sign * worse, 0.0), weights, codes, scale) for sign in (1, -1))
        ends = loss.ends(z), gain.ends(z)
        correlation = _correlation(loss.residuals, gain.residuals)
        above = _joined(ends[0][1], ends[1][0], correlation)
        below = _joined(ends[0][0], ends[1][1], correlation)
        unseen = rarest * z**2 / (loss.groups + z**2)
        return cls(
            drop=loss.mean - gain.mean, below=_joined(below, unseen, 0.0), above=_joined(above, unseen, 0.0),
            groups=names, residuals=loss.residuals - gain.residuals,
        )  # fmt: skip

    @classmethod
    def of_parts(cls, parts: Sequence["Bound"], weights: Sequence[float]) -> Self:
        """The bound of the weighted sum of drops over disjoint labels or different tasks.

        Drops that rise together, over groups, add up; others are joined as independent ones.
        """
        groups = np.unique(np.concatenate([part.groups for part in parts]))
        residuals = np.zeros((len(parts), len(groups)))
        for row, part in zip(residuals, parts, strict=True):
            row[np.searchsorted(groups, part.groups)] = part.residuals
        scaled = residuals * np.asarray(weights)[:, None]
        together = np.array([[max(0.0, _correlation(one, other)) for other in scaled] for one in scaled])
        np.fill_diagonal(together, 1.0)
        above, below = (
            np.abs(weights)
            * [getattr(part, side if weight >= 0 else other) for part, weight in zip(parts, weights, strict=True)]
            for side, other in (("above", "below"), ("below", "above"))
        )
        return cls(
            drop=float(np.dot(weights, [part.drop for part in parts])), groups=groups, residuals=scaled.sum(axis=0),
            above=float(above @ together @ above) ** 0.5, below=float(below @ together @ below) ** 0.5,
        )  # fmt: skip

    @classmethod
    def of_sums(cls, sums: PairedSums, *, z: float, effective: float) -> Self:
        """The bound for any metric between 0 and 1 of which more is better, such as F1 or average precision.

        Each run's value has Wilson's interval at the effective size of its jackknife variance over groups, at most
        `effective`; the two are joined with half of their correlation.
        """
        values = np.array(sums.values())
        pulls = [_pulls(sums, part) for part in (sums.first, sums.second)]
        sizes = [
            _size(float(value), float((pull**2).sum()), effective) for value, pull in zip(values, pulls, strict=True)
        ]
        ends = [_wilson(float(value), size, z) for value, size in zip(values, sizes, strict=True)]
        half = _correlation(*pulls) / 2
        gaps = [(value - low, high - value) for value, (low, high) in zip(values.tolist(), ends, strict=True)]
        return cls(
            drop=float(values[0] - values[1]), groups=sums.groups, residuals=pulls[0] - pulls[1],
            above=_joined(gaps[0][1], gaps[1][0], half), below=_joined(gaps[0][0], gaps[1][1], half),
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
    def of(cls, values: Floats, weights: Floats, codes: Ints, scale: float) -> Self:
        own = np.bincount(codes, weights)
        total = float(own.sum())
        mean = float((values * weights).sum()) / total
        residuals = (np.bincount(codes, values * weights) - mean * own) / total
        labels, groups = total**2 / float((weights**2).sum()), total**2 / float((own**2).sum())
        floor = float((weights * (values - mean) ** 2).sum()) / total / labels * (1 + (labels / groups - 1) * ICC)
        count = len(own)
        variance = max(floor, count / max(1, count - 1) * float((residuals**2).sum()))
        size = mean * (scale - mean) / variance if variance > ROUNDING * scale**2 else groups
        return cls(mean=mean, scale=scale, residuals=residuals, size=size, groups=groups)

    def ends(self, z: float) -> tuple[float, float]:
        """How far Wilson's interval reaches below and above the mean."""
        low, high = _wilson(self.mean / self.scale, self.size, z)
        return self.mean - low * self.scale, high * self.scale - self.mean


def effective_labels(weights: Floats, groups: Ints) -> float:
    """How many independent labels the labels [n] of some groups count as, at the design effect of the floor."""
    own = np.bincount(np.unique(groups, return_inverse=True)[1], weights)
    labels, count = (float(weights.sum() ** 2 / (part**2).sum()) for part in (weights, own))
    return labels / (1 + (labels / count - 1) * ICC)


def _wilson(share: float, size: float, z: float) -> tuple[float, float]:
    centre = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * (share * (1 - share) / size + z**2 / (4 * size**2)) ** 0.5
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def _size(value: float, variance: float, effective: float) -> float:
    return min(effective, value * (1 - value) / variance) if variance > ROUNDING else effective


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
