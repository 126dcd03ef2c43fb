"""The order in which images are shown: of each group one before the second of any."""

import numpy as np

from curation.arrays import Ints

__all__ = ["groups_first"]


def groups_first(order: Ints, groups: Ints) -> Ints:
    """`order` [n] with the first of each group in front, then the second of each, and so on.

    `groups` are indexed by the entries of `order`.

    >>> groups_first(np.array([0, 1, 2]), np.array([7, 7, 8])).tolist()
    [0, 2, 1]
    """
    own = groups[order]
    by_group = np.argsort(own, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(own[by_group]) != 0])[: len(order)]
    turns: Ints = np.empty(len(order), np.int64)
    turns[by_group] = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)]))
    return np.asarray(order[np.argsort(turns, kind="stable")], np.int64)
