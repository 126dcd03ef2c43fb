"""Figures with intervals that know that the images of a group are not independent.

A share is a ratio of sums over groups; its variance is the linearised one of cluster sampling (Kish 1965; Cochran 1977,
6.3), and the 95% interval is Wilson's at the effective sample size p(1 - p) / variance (Korn & Graubard 1998; Dean &
Pagano 2015), which stays honest where every answer is right. It agrees with a bootstrap of groups and needs no draws.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = ["Figure", "balanced", "mean_of", "proportion"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Z = float(stats.norm.ppf(0.975))

ROUNDING = 1e-12
"""Variances below this are rounding."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A value with its 95% interval, over n samples of so many groups; None where there is nothing to say."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    groups: int


NOTHING = Figure(value=None, low=None, high=None, n=0, groups=0)


def proportion(right: Floats, weights: Floats, groups: Ints) -> Figure:
    """The weighted share of `right` (0 or 1) over n samples; `groups` [n] are codes of what is resampled whole."""
    if not len(right):
        return NOTHING
    share, variance, effective = _ratio(right, weights, groups)
    return _wilson(share, variance, effective, len(right), len(np.unique(groups)))


def balanced(right: Floats, classes: Ints, weights: Floats, groups: Ints) -> Figure:
    """The mean over the classes that occur of the share of `right` in each.

    The classes' own intervals are joined by the method of variance estimates recovery (Zou & Donner 2008), so that a
    class of which all few answers are right still says how little that is.
    """
    codes = np.unique(classes)
    if not len(codes):
        return NOTHING
    parts = [proportion(right[mine], weights[mine], groups[mine]) for mine in (classes == code for code in codes)]
    shares, lows, highs = (np.asarray([getattr(part, name) for part in parts]) for name in ("value", "low", "high"))
    below, above = (float(np.sqrt((gap**2).sum())) / len(codes) for gap in (shares - lows, highs - shares))
    mean = float(shares.mean())
    count = len(np.unique(groups))
    return Figure(value=mean, low=max(0.0, mean - below), high=min(1.0, mean + above), n=len(right), groups=count)


def mean_of(values: Floats, weights: Floats, groups: Ints) -> Figure:
    """The weighted mean of `values` with Student's interval over groups."""
    if not len(values):
        return NOTHING
    mean, variance, _ = _ratio(values, weights, groups)
    count = len(np.unique(groups))
    if count < 2:
        return Figure(value=mean, low=None, high=None, n=len(values), groups=count)
    half = float(stats.t.ppf(0.975, count - 1)) * variance**0.5
    return Figure(value=mean, low=mean - half, high=mean + half, n=len(values), groups=count)


def _ratio(values: Floats, weights: Floats, groups: Ints) -> tuple[float, float, float]:
    """Weighted mean, its linearised variance over groups, and Kish's effective number of groups."""
    _, codes = np.unique(groups, return_inverse=True)
    total = np.bincount(codes, weights)
    mean = float((values * weights).sum() / weights.sum())
    residual = np.bincount(codes, weights * (values - mean))
    count = len(total)
    variance = count / max(1, count - 1) * float((residual**2).sum()) / float(weights.sum()) ** 2
    return mean, variance, float(total.sum() ** 2 / (total**2).sum())


def _wilson(share: float, variance: float, effective: float, n: int, groups: int) -> Figure:
    size = share * (1 - share) / variance if groups > 1 and variance > ROUNDING else effective
    size = min(size, float(n))
    centre = (share + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * (share * (1 - share) / size + Z**2 / (4 * size**2)) ** 0.5
    return Figure(
        value=share,
        low=max(0.0, min(share, centre - half)),
        high=min(1.0, max(share, centre + half)),
        n=n,
        groups=groups,
    )
