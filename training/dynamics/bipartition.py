"""Groups of similar tasks, from the top down: each step cuts in two the group that gains most by it."""

from itertools import combinations

import numpy as np

from curation.arrays import Bools, Floats

__all__ = ["partitions"]

EXACT = 12
"""Tasks of a group up to which every cut is tried; of more, the best that single moves reach."""


def partitions(similarity: Floats, most: int) -> list[tuple[tuple[int, ...], ...]]:
    """Partitions of T tasks into 2, 3, ... and at most `most` groups, each a refinement of the one before.

    `similarity` [T, T] is symmetric; its diagonal does not count. A cut gains, for each pair of tasks that it parts,
    the mean similarity of all pairs minus theirs (modularity: Newman & Girvan 2004); the group and the cut of the
    largest gain are taken, also where no gain is positive. Groups are sorted by their first task.

    >>> similarity = np.array([[0, 9, 1, 0], [9, 0, 0, 1], [1, 0, 0, 8], [0, 1, 8, 0]], float)
    >>> partitions(similarity, 3)
    [((0, 1), (2, 3)), ((0, 1), (2,), (3,))]
    """
    off = ~np.eye(len(similarity), dtype=bool)
    excess = np.where(off, similarity - similarity[off].mean(), 0.0) if len(similarity) > 1 else similarity
    groups: list[tuple[int, ...]] = [tuple(range(len(similarity)))]
    found = []
    while len(groups) < min(most, len(similarity)):
        cuts = {group: _best_cut(excess[np.ix_(group, group)]) for group in groups if len(group) > 1}
        group = max(cuts, key=lambda each: cuts[each][0])
        side = cuts[group][1]
        groups.remove(group)
        groups += [tuple(np.array(group)[side == here].tolist()) for here in (True, False)]
        groups.sort()
        found.append(tuple(groups))
    return found


def _best_cut(excess: Floats) -> tuple[float, Bools]:
    """The gain of the best cut of a group, and the side of each of its tasks; the first task is on the side True."""
    size = len(excess)
    if size <= EXACT:
        rest = range(1, size)
        others = [part for count in range(1, size) for part in combinations(rest, count)]
        sides = np.ones((len(others), size), bool)
        for row, part in enumerate(others):
            sides[row, list(part)] = False
        gains = _gains(excess, sides)
        best = int(gains.argmax())
        return float(gains[best]), sides[best]
    return _moved(excess)


def _gains(excess: Floats, sides: Bools) -> Floats:
    """The gain of each cut [R] with these sides [R, n]."""
    signed = np.where(sides, 1.0, 0.0)
    return np.asarray(-np.einsum("ri,ij,rj->r", signed, excess, 1 - signed), np.float64)


def _moved(excess: Floats) -> tuple[float, Bools]:
    """The cut along the leading eigenvector, after single moves as long as one gains."""
    side = np.linalg.eigh(excess)[1][:, -1] >= 0
    if side.all() or not side.any():
        side[int(np.abs(excess).sum(axis=0).argmin())] ^= True
    gain = float(_gains(excess, side[None])[0])
    while True:
        moved = side[None] ^ np.eye(len(side), dtype=bool)
        gains = np.where(moved.any(axis=1) & ~moved.all(axis=1), _gains(excess, moved), -np.inf)
        best = int(gains.argmax())
        if gains[best] <= gain + 1e-12:
            return gain, side if side[0] else ~side
        gain, side = float(gains[best]), moved[best]
