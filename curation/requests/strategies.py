"""Strategies: which samples to request first. Each is a function of arrays; a row is an index of a training sample.

N samples, C classes. `open_` [N] marks the samples that a label may be requested for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.arrays import Bools, Floats, Ints

__all__ = [
    "Pick",
    "at_random",
    "best_first",
    "entropy",
    "likely_share",
    "most_likely_rare",
    "one_of_each_group",
    "smallest_margin",
    "some_of",
]


LEAST_LIKELY, MOST_LIKELY = 0.15, 0.85


@dataclass(frozen=True, kw_only=True)
class Pick:
    """One open row, the arm of its request, and why it is requested."""

    row: int
    arm: str
    reason: str


def at_random(open_: Bools, count: int, seed: Sequence[int]) -> tuple[Ints, float]:
    """`count` open rows (fewer where fewer are open) drawn uniformly, ascending, and the propensity of each."""
    rows = np.flatnonzero(open_)
    count = min(count, len(rows))
    drawn = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
    return rows[drawn], count / len(rows)


def some_of(rows: Ints, most: int, generator: "np.random.Generator") -> Ints:
    """The ascending `rows` [n], or where there are more than `most`, so many of them drawn uniformly."""
    return rows if len(rows) <= most else np.sort(generator.permutation(rows)[:most])


def most_likely_rare(chances: Floats, inside: Bools) -> Floats:
    """The chance [N] to be in a slice: the sum of the `chances` [N, C] of the classes that put a sample `inside`."""
    return np.asarray((chances * inside).sum(axis=1), np.float64)


def entropy(chances: Floats) -> Floats:
    """The entropy [N], in nats, of the `chances` [N, C]."""
    return np.asarray(-(chances * np.log(np.maximum(chances, 1e-300))).sum(axis=1), np.float64)


def smallest_margin(chances: Floats, inside: Bools) -> Floats:
    """1 - (largest - second largest of the `chances` [N, C]); 0 for samples that are not `inside` [N]."""
    top = np.sort(chances, axis=1)
    return np.asarray((1 - top[:, -1] + top[:, -2]) * inside, np.float64)


def likely_share(hits: int, requests: int) -> float:
    """The share of a slice's budget for its likeliest members, from the last batch of requests for it: its hit rate by
    the rule of succession, between 15% and 85%; one half before the first batch.

    >>> likely_share(0, 0), likely_share(0, 20), likely_share(20, 20)
    (0.5, 0.15, 0.85)
    """
    return min(MOST_LIKELY, max(LEAST_LIKELY, (hits + 1) / (requests + 2)))


def best_first(scores: Floats, open_: Bools, groups: npt.NDArray[Any]) -> Ints:
    """Open rows with a score [N] above 0, the highest first, one of each group before the second of any."""
    order = np.argsort(-np.where(open_, scores, -1), kind="stable")
    order = one_of_each_group(order, groups, ~open_)
    return order[open_[order] & (scores[order] > 0)]


def one_of_each_group(order: Ints, groups: npt.NDArray[Any], taken: Bools) -> Ints:
    """`order` with the first row of each group in front, then the second of each, and so on.

    Rows that are `taken` [N] (labelled or requested) count first in their groups: such a group has had its turn.
    """
    order = np.concatenate([order[taken[order]], order[~taken[order]]])
    mine = groups[order]
    by_group = np.argsort(mine, kind="stable")
    first = np.ones(len(order), np.bool_)
    first[1:] = mine[by_group][1:] != mine[by_group][:-1]
    place = np.arange(len(order))
    turn = np.empty(len(order), np.int64)
    turn[by_group] = place - np.maximum.accumulate(np.where(first, place, 0))
    return np.asarray(order[np.argsort(turn, kind="stable")], np.int64)
