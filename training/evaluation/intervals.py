"""Figures with intervals for images that come in groups and so are not independent.

A share is a ratio of sums over groups. Its variance is the linearised one of cluster sampling (Kish 1965; Cochran 1977,
6.3), and its 95% interval is Wilson's at the effective sample size p(1 - p) / variance (Korn & Graubard 1998; Dean &
Pagano 2015), which has positive width even where every answer is right. It agrees with a bootstrap of groups and needs
no random draws. Only the sums of each group enter, so figures can be computed from merged sums (`metrics`).
"""

from dataclasses import dataclass

import numpy as np

from curation.arrays import Floats, Ints

__all__ = [
    "NOT_ENOUGH_DATA",
    "Figure",
    "Z",
    "balanced",
    "mean_of",
    "mean_of_shares",
    "mean_of_sums",
    "proportion",
    "share_of_sums",
    "share_of_variance",
]


Z = 1.959963984540054
"""The 97.5% quantile of the normal distribution."""

ROUNDING = 1e-12
"""Variances below this are rounding."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A value with its 95% interval over n samples of `groups` groups.

    `value` is None where the data do not define it; `low` and `high` are None where they give no interval.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    groups: int


NOT_ENOUGH_DATA = Figure(value=None, low=None, high=None, n=0, groups=0)


def proportion(right: Floats, weights: Floats, groups: Ints) -> Figure:
    """The weighted share of `right` [n] (0 or 1), with Wilson's interval over groups.

    `groups` [n] are codes; images of one group are not independent of each other.

    >>> proportion(np.array([1.0, 1.0, 0.0, 1.0]), np.ones(4), np.array([0, 1, 2, 3])).value
    0.75
    """
    if not len(right):
        return NOT_ENOUGH_DATA
    hits, totals = _by_group(groups, right * weights, weights)
    return share_of_sums(hits, totals, len(right))


def share_of_sums(hits: Floats, totals: Floats, n: int) -> Figure:
    """`proportion` from the weight of the right samples [G] and of all n samples [G] of each group."""
    inside = totals > 0
    if not inside.any():
        return NOT_ENOUGH_DATA
    hits, totals = hits[inside], totals[inside]
    share, variance = _ratio(hits, totals)
    effective = float(totals.sum() ** 2 / (totals**2).sum())
    return share_of_variance(share, variance, effective, n=n, groups=len(totals))


def balanced(right: Floats, classes: Ints, weights: Floats, groups: Ints) -> Figure:
    """The mean, over the classes that occur in `classes` [n], of the share of `right` [n] in each."""
    codes = np.unique(classes)
    parts = [proportion(right[mine], weights[mine], groups[mine]) for mine in (classes == code for code in codes)]
    return mean_of_shares(parts, n=len(right), groups=len(np.unique(groups)))


def mean_of_shares(shares: list[Figure], *, n: int, groups: int) -> Figure:
    """The mean of shares of disjoint samples, n in all.

    Their intervals are joined by the method of variance estimates recovery (Zou & Donner 2008), so a share with few
    samples widens the interval even when all of them are right.
    """
    if not shares:
        return NOT_ENOUGH_DATA
    values, lows, highs = (np.asarray([getattr(part, name) for part in shares]) for name in ("value", "low", "high"))
    below, above = (float(np.sqrt((gap**2).sum())) / len(shares) for gap in (values - lows, highs - values))
    mean = float(values.mean())
    return Figure(value=mean, low=max(0.0, mean - below), high=min(1.0, mean + above), n=n, groups=groups)


def mean_of(values: Floats, weights: Floats, groups: Ints) -> Figure:
    """The weighted mean of `values` [n], with Student's interval over groups; no interval for a single group.

    >>> figure = mean_of(np.array([1.0, 3.0]), np.ones(2), np.array([0, 0]))
    >>> figure.value, figure.low
    (2.0, None)
    """
    if not len(values):
        return NOT_ENOUGH_DATA
    sums, totals = _by_group(groups, values * weights, weights)
    return mean_of_sums(sums, totals, len(values))


def mean_of_sums(sums: Floats, totals: Floats, n: int) -> Figure:
    """`mean_of` from the weighted sum of the values [G] and the weight [G] of each group, of n samples in all."""
    inside = totals > 0
    if not inside.any():
        return NOT_ENOUGH_DATA
    mean, variance = _ratio(sums[inside], totals[inside])
    count = int(inside.sum())
    if count < 2:
        return Figure(value=mean, low=None, high=None, n=n, groups=count)
    from scipy import stats

    half = float(stats.t.ppf(0.975, count - 1)) * variance**0.5
    return Figure(value=mean, low=mean - half, high=mean + half, n=n, groups=count)


def _by_group(groups: Ints, *values: Floats) -> list[Floats]:
    """Each of `values` [n] summed over the groups that occur [G]."""
    _, codes = np.unique(groups, return_inverse=True)
    return [np.asarray(np.bincount(codes, value), np.float64) for value in values]


def _ratio(sums: Floats, totals: Floats) -> tuple[float, float]:
    """The ratio of two sums over groups [G], and its linearised variance."""
    ratio = float(sums.sum() / totals.sum())
    residuals = sums - ratio * totals
    count = len(totals)
    return ratio, count / max(1, count - 1) * float((residuals**2).sum()) / float(totals.sum()) ** 2


def share_of_variance(share: float, variance: float, effective: float, *, n: int, groups: int) -> Figure:
    """A share of `n` samples of `groups` groups, with Wilson's interval at the effective sample size that `variance`
    gives; at `effective` (Kish) where the variance cannot be estimated."""
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
