"""DIRECT: samples around the score that best separates each class from the others (Nuggehalli et al. 2023)."""

from collections.abc import Iterator

import numpy as np

from curation.arrays import Bools, Floats, Int8s, Ints
from curation.requests.strategies import one_of_each_group

__all__ = ["around_separations", "separation", "undecided"]


def around_separations(
    scores: Floats, states: Int8s, open_: Bools, groups: Ints, count: int, generator: "np.random.Generator"
) -> list[tuple[int, int]]:
    """Up to `count` open rows, each with the class that it is chosen for, by DIRECT (Nuggehalli, Zhang, Jain and Nowak,
    "Improved algorithm for deep active learning under imbalance via optimal separation", ICML 2025).

    `scores` [n, C] order the rows for each class: the margin p_c - max_j p_j, or p_c - 1/2 of a class by itself.
    `states` [n, C] are 1 where the class is known to be there, 0 where it is known not to be, -1 where it is unknown.
    As in the paper, half of the budget is drawn uniformly where the known labels leave the separation `undecided`, half
    goes to the rows next to the `separation`, and classes have equal budgets, the rarest first. What the undecided
    ranges cannot use goes to the rows next to the separation of the rarest class. Labels only count, so a wrong one
    moves a separation little.

    The paper asks the annotators one after another and narrows the undecided range by each answer. Here the answers of
    a batch come together, so the range is narrowed once a batch. One of each group comes first.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    classes = np.argsort((states == 1).sum(axis=0), kind="stable")
    free, found = open_.copy(), list[tuple[int, int]]()

    def take(rows: Iterator[int], code: int, most: int) -> None:
        for row in rows:
            if most <= 0:
                return
            if free[row]:
                free[row] = False
                found.append((row, code))
                most -= 1

    for turn, code in enumerate(classes.tolist()):
        first, last = undecided(states[order[:, code], code])
        among = generator.permutation(order[first:last, code])
        take(_by_group(among, groups, free), code, count * (turn + 1) // (2 * len(classes)) - len(found))
    for turn, code in enumerate(classes.tolist()):
        middle = separation(states[order[:, code], code])
        nearest = order[np.argsort(np.abs(np.arange(len(order)) + 0.5 - middle), kind="stable"), code]
        half = count // 2
        take(_by_group(nearest, groups, free), code, half + (count - half) * (turn + 1) // len(classes) - len(found))
    return found


def separation(states: Int8s) -> int:
    """The number of rows, from the front, that are best called the class: most known `states` [n] are then right.

    >>> separation(np.array([1, -1, 1, 0, 1, 0, 0], np.int8))
    3
    """
    worth = np.where(states < 0, 0, np.where(states == 1, 1, -1))
    return int(np.argmax(np.concatenate([[0], np.cumsum(worth)])))


def undecided(states: Int8s) -> tuple[int, int]:
    """The slice of rows in which the separation may be: after the known rows of the class that no other known row
    precedes, before the known others that no row of the class follows.

    >>> undecided(np.array([1, -1, 0, 1, -1, 0, 0], np.int8))
    (1, 5)
    """
    there, other = np.flatnonzero(states == 1), np.flatnonzero(states == 0)
    first_other = int(other[0]) if len(other) else len(states)
    last_there = int(there[-1]) if len(there) else -1
    before, after = there[there < first_other], other[other > last_there]
    return (int(before[-1]) + 1 if len(before) else 0), (int(after[0]) if len(after) else len(states))


def _by_group(order: Ints, groups: Ints, free: Bools) -> Iterator[int]:
    return iter(one_of_each_group(order, groups, ~free).tolist())
