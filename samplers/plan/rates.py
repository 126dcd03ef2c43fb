"""The mathematics of one task's draws: from label counts of strata to target rates.

A class c with n_c labels is split into strata cs by the combination of boosted slices. `class_targets` gives pi_c,
`stratum_targets` gives pi_cs; both are probabilities that sum to 1. `quantise` turns them into integers, and everything
after that, including p and the weights, follows from the integers.
"""

import numpy as np

from curation.arrays import Floats, Ints
from samplers.policy.policy import TaskPolicy

__all__ = [
    "PI_UNITS", "SHARE_UNITS", "class_targets", "quantise", "regression_bins", "stratum_targets",
    "water_fill",
]  # fmt: skip

PI_UNITS = 2**40
"""A task's targets are integers that sum to this."""

SHARE_UNITS = 2**22
"""Shares are integers that sum to this; the product of a share and a target is below 2^63."""

BINS = 10
SMALLEST_BIN = 20


def class_targets(counts: Ints | Floats, policy: TaskPolicy) -> Floats:
    """pi_c of each class for its number of labels `counts` [C]; 0 for a class without labels.

    >>> policy = TaskPolicy(owner="ada", share=1, importance=1, rule="power", gamma=0.5)
    >>> class_targets(np.array([900, 100]), policy).tolist()
    [0.75, 0.25]
    """
    n = counts.astype(np.float64)
    some = n > 0
    frequency = n / max(1.0, n.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        match policy.rule:
            case "natural":
                mass = n
            case "balanced":
                mass = np.ones_like(n)
            case "power":
                mass = n**policy.gamma
            case "effective_number":
                mass = n if policy.beta == 0 else n * (1 - policy.beta) / -np.expm1(n * np.log(policy.beta))
            case "repeat_factor":
                mass = frequency * np.maximum(1, np.sqrt(policy.threshold / frequency))
    mass = np.where(some, mass, 0.0)
    return np.asarray(mass / mass.sum(), np.float64)


def stratum_targets(
    counts: Ints, classes: Ints, boosts: Floats, policy: TaskPolicy, mined_weight: Floats | None = None
) -> Floats:
    """pi_cs of each stratum: n_cs labels `counts` [S], its class `classes` [S], the product of its boosts [S].

    `mined_weight` [S] is the weight of a stratum's labels within their class (default: 1). Boosts move mass only within
    a class. A cap r bounds q(i) <= r / |L|, first over classes, then over the strata of each class.

    >>> policy = TaskPolicy(owner="ada", share=1, importance=1)
    >>> stratum_targets(np.array([50, 25, 25]), np.array([0, 1, 1]), np.array([1.0, 1.0, 3.0]), policy).tolist()
    [0.5, 0.125, 0.375]
    """
    mass = counts * (1.0 if mined_weight is None else mined_weight)
    per_class = np.bincount(classes, counts)
    targets = class_targets(np.bincount(classes, mass), policy)
    ceiling = None if policy.cap is None else policy.cap / counts.sum()
    if ceiling is not None:
        targets = water_fill(targets, per_class * ceiling)
    boosted = mass * boosts
    pi = targets[classes] * boosted / np.bincount(classes, boosted)[classes]
    if ceiling is not None:
        for code in np.flatnonzero(per_class):
            mine = classes == code
            pi[mine] = water_fill(pi[mine], counts[mine] * ceiling)
    return np.asarray(pi / pi.sum(), np.float64)


def water_fill(targets: Floats, limits: Floats) -> Floats:
    """min(limits, lam * targets), with lam such that the total is that of `targets`, which `limits` must allow.

    >>> water_fill(np.array([0.5, 0.25, 0.25]), np.array([0.3, 1.0, 1.0])).tolist()
    [0.3, 0.35, 0.35]
    """
    total = targets.sum()
    out = targets.copy()
    full = np.zeros(len(targets), np.bool_)
    for _ in range(len(targets)):
        over = ~full & (out > limits)
        if not over.any():
            break
        full |= over
        rest = targets[~full].sum()
        room = total - limits[full].sum()
        out = np.where(full, limits, targets * (room / rest if rest > 0 else 0.0))
    return np.asarray(out, np.float64)


def quantise(rates: Floats, units: int) -> Ints:
    """Integers in proportion to `rates` [K] that sum to `units`; every positive rate gets at least 1.

    >>> quantise(np.array([0.7, 0.3, 1e-9]), 10).tolist()
    [6, 3, 1]
    """
    exact = rates / rates.sum() * units
    whole = np.maximum(np.floor(exact), rates > 0).astype(np.int64)
    order = np.argsort(whole - exact, kind="stable")
    short = units - int(whole.sum())
    if short >= 0:
        whole[order[:short]] += 1
    else:
        whole[np.argmax(whole)] += short
    return np.asarray(whole, np.int64)


def regression_bins(values: Floats) -> Ints:
    """The bin of each target [n]: 10 equal-width bins between the 1% and 99% quantiles, tails in the edge bins.

    A bin of fewer than 20 labels is merged into its smaller neighbour. Codes are 0, 1, 2, ... without gaps.
    """
    low, high = np.quantile(values, [0.01, 0.99])
    if high <= low:
        return np.zeros(len(values), np.int64)
    bins = np.clip((values - low) / (high - low) * BINS, 0, BINS - 1).astype(np.int64)
    merged_bins = [[code] for code in range(BINS)]
    sizes = np.bincount(bins, minlength=BINS).tolist()
    while len(sizes) > 1 and min(sizes) < SMALLEST_BIN:
        small = int(np.argmin(sizes))
        sides = [side for side in (small - 1, small + 1) if 0 <= side < len(sizes)]
        into = min(sides, key=lambda side: sizes[side])
        left, right = sorted((small, into))
        merged_bins[left : right + 1] = [merged_bins[left] + merged_bins[right]]
        sizes[left : right + 1] = [sizes[left] + sizes[right]]
    merged = np.empty(BINS, np.int64)
    for code, bins_of_code in enumerate(merged_bins):
        merged[bins_of_code] = code
    return np.asarray(merged[bins], np.int64)
