"""The mathematics of one task's draws: from counts of strata to their target rates.

A class c of a task with n_c labels is split by the pattern of boosted slices into strata cs. `class_targets` gives
pi_c, `stratum_targets` gives pi_cs; both are probabilities that sum to 1. `quantise` turns them into integers, and
everything after, p and weights included, comes from the integers.
"""

import numpy as np
import numpy.typing as npt

from samplers.policy.policy import TaskPolicy

__all__ = [
    "PI_UNITS", "SHARE_UNITS", "Floats", "Ints", "class_targets", "quantise", "regression_bins", "stratum_targets",
    "water_fill",
]  # fmt: skip

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PI_UNITS = 2**40
"""A task's targets are whole numbers that sum to this."""

SHARE_UNITS = 2**22
"""The shares are whole numbers that sum to this; a product of both stays below 2^63."""

BINS = 10
SMALLEST_BIN = 20


def class_targets(counts: Ints | Floats, policy: TaskPolicy) -> Floats:
    """pi_c of each class for its number of labels `counts` [C]; a class without labels gets 0."""
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
    counts: Ints, classes: Ints, boosts: Floats, policy: TaskPolicy, fresh: Floats | None = None
) -> Floats:
    """pi_cs of each stratum: n_cs labels `counts` [S], its class `classes` [S], the product of its boosts [S].

    `fresh` [S] says what a label of a stratum counts among those of its class (default: 1). Boosts move mass inside a
    class only. With a cap r, q(i) <= r / |L|: classes first, then the strata of each class.
    """
    mass = counts * (1.0 if fresh is None else fresh)
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
    """min(limits, lam * targets) with the lam that keeps the total; limits must leave room for it."""
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
    """Whole numbers in proportion to `rates` [K] that sum to `units`; every positive rate gets at least 1."""
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

    A bin of fewer than 20 labels is merged into its smaller neighbour. Codes count up from 0 without gaps.
    """
    low, high = np.quantile(values, [0.01, 0.99])
    if high <= low:
        return np.zeros(len(values), np.int64)
    bins = np.clip((values - low) / (high - low) * BINS, 0, BINS - 1).astype(np.int64)
    members = [[code] for code in range(BINS)]
    sizes = np.bincount(bins, minlength=BINS).tolist()
    while len(sizes) > 1 and min(sizes) < SMALLEST_BIN:
        small = int(np.argmin(sizes))
        sides = [side for side in (small - 1, small + 1) if 0 <= side < len(sizes)]
        into = min(sides, key=lambda side: sizes[side])
        left, right = sorted((small, into))
        members[left : right + 1] = [members[left] + members[right]]
        sizes[left : right + 1] = [sizes[left] + sizes[right]]
    merged = np.empty(BINS, np.int64)
    for code, bins_of_code in enumerate(members):
        merged[bins_of_code] = code
    return np.asarray(merged[bins], np.int64)
