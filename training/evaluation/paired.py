"""Differences between trainings over the same seeds and the same labels, with intervals that cover both.

A difference of means varies with the seeds and with the images that happen to be in the split. The variance is the sum
of both parts: that of the seeds' differences over their number, and the linearised one over groups of images (Cochran
1977, 6.3) of the mean over seeds. What belongs to neither alone counts in both, so the interval is slightly too wide
rather than too narrow (Owen 2007, "The pigeonhole bootstrap"). Degrees of freedom are Satterthwaite's (1946).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from curation.arrays import Floats, Ints
from curation.catalog.tasks import Task
from training.evaluation.predictions import LabelledPredictions, Samples

__all__ = ["Estimate", "SeedValues", "chance", "estimate"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its interval (95% where nothing else is said); `low` and `high` are None where the data give none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class SeedValues:
    """A value of each of n > 0 labels in the trainings of S seeds [S, n], such as 1 where the prediction is right.

    `weights` and `groups` [n] are those of the images. The mean is taken in each stratum first (`strata` [n]: codes,
    such as the classes of balanced accuracy), then over the strata.
    """

    values: Floats
    weights: Floats
    groups: Ints
    strata: Ints

    @classmethod
    def of(cls, task: Task, predicted: Sequence[LabelledPredictions], samples: Samples) -> Self | None:
        """What the task's metric averages, from the predictions of S trainings for the same labels; None without any.

        That is the error for `mae`, otherwise 1 where the prediction is right.
        """
        rows, truth = predicted[0].rows, predicted[0].truth
        if not len(rows):
            return None
        errors = np.stack([part.errors for part in predicted])
        strata = truth if task.metric == "balanced_accuracy" else np.zeros(len(rows))
        return cls(
            values=errors if task.metric == "mae" else (errors == 0).astype(np.float64), weights=predicted[0].weights,
            groups=samples.groups[rows], strata=strata.astype(np.int64),
        )  # fmt: skip

    def minus(self, other: Self) -> Self:
        """The difference from other trainings on the same labels, seed by seed."""
        return replace(self, values=self.values - other.values)

    def by_seed(self) -> Floats:
        """The mean of each seed [S]."""
        return np.asarray(self.values @ self._shares(), np.float64)

    def residuals(self) -> Floats:
        """What each label adds to the linearised error of the mean over seeds [n]."""
        _, codes = np.unique(self.strata, return_inverse=True)
        mean = self.values.mean(axis=0)
        means = np.bincount(codes, mean * self.weights) / np.bincount(codes, self.weights)
        return np.asarray(self._shares() * (mean - means[codes]), np.float64)

    def _shares(self) -> Floats:
        """The part of each label in the mean [n]; they sum to 1."""
        _, codes = np.unique(self.strata, return_inverse=True)
        totals = np.bincount(codes, self.weights)
        return np.asarray(self.weights / (totals * len(totals))[codes], np.float64)


def estimate(
    parts: Sequence[SeedValues], *, level: float = 0.95, spread: tuple[float, float] | None = None
) -> Estimate:
    """The mean over `parts` (one or more, such as tasks, which may share images) of their means, with its interval.

    `level` is how often the interval is to hold the mean; with 0.9, `low` is the one-sided 95% bound. `spread` is the
    variance of one seed's mean and its degrees of freedom, where more trainings than these show it. One seed alone says
    nothing about seeds: the interval is then that of the images. With one seed and one group there is none.

    >>> values = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    >>> part = SeedValues(values=values, weights=np.ones(4), groups=np.arange(4), strata=np.zeros(4, int))
    >>> estimate([part]).value
    0.25
    """
    from scipy import stats

    value, error, freedom = _mean(parts, spread)
    if error is None:
        return Estimate(value=value, low=None, high=None)
    half = float(stats.t.ppf((1 + level) / 2, freedom) * error)
    return Estimate(value=value, low=value - half, high=value + half)


def chance(parts: Sequence[SeedValues]) -> float:
    """The one-sided p of the mean of `estimate`: how likely so large a one is where the true mean is 0; 1 where the
    data give no error.

    >>> part = SeedValues(values=np.zeros((2, 4)), weights=np.ones(4), groups=np.arange(4), strata=np.zeros(4, int))
    >>> chance([part])
    1.0
    """
    from scipy import stats

    value, error, freedom = _mean(parts)
    return float(stats.t.sf(value / error, freedom)) if error else 1.0


def _mean(parts: Sequence[SeedValues], spread: tuple[float, float] | None = None) -> tuple[float, float | None, float]:
    """The mean over parts, its standard error (None where the data give none), and the error's degrees of freedom."""
    seeds = np.mean([part.by_seed() for part in parts], axis=0)
    groups = np.concatenate([part.groups for part in parts])
    residuals = np.concatenate([part.residuals() for part in parts]) / len(parts)
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], residuals)
    if spread is None:
        spread = (float(seeds.var(ddof=1)), len(seeds) - 1) if len(seeds) > 1 else (0.0, 0)
    variances = [
        (spread[0] / len(seeds), spread[1]),
        (len(sums) / (len(sums) - 1) * float((sums**2).sum()), len(sums) - 1) if len(sums) > 1 else (0.0, 0),
    ]
    known = [(variance, freedom) for variance, freedom in variances if freedom]
    if not known:
        return float(seeds.mean()), None, 0.0
    total = sum(variance for variance, _ in known)
    squares = sum(variance**2 / freedom for variance, freedom in known)
    return float(seeds.mean()), total**0.5, total**2 / squares if squares > 0 else 1.0
