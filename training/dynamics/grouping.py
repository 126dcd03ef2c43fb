"""Which tasks to learn together: from measured pairs to networks (Standley et al. 2020, arXiv 1905.07553).

The expected gain of a task in a network is the mean of its gains with each of the network's other tasks; alone it is 0.
With helpers, a network may also learn tasks that it does not serve, whose heads are dropped afterwards.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from curation.arrays import Floats, Ints
from curation.errors import BadInput

__all__ = ["EXACT", "ChosenNetwork", "Grouping", "choose_groups", "grouping_of"]

EXACT = 12
"""Up to so many tasks every division is weighed; beyond, branch and bound gives the same, or stops after `NODES`."""

NODES = 200_000
"""Divisions that branch and bound looks into before it settles for the best one found."""

TIE = 1e-9


@dataclass(frozen=True, kw_only=True)
class ChosenNetwork:
    """A network: the tasks that it `serves`, and those that it `helpers` learns for their sake alone."""

    serves: tuple[str, ...]
    helpers: tuple[str, ...]

    @property
    def learns(self) -> tuple[str, ...]:
        """All tasks that it is trained on."""
        return self.serves + self.helpers


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """Networks that serve each task once, with the expected gain of each task in points, and the mean over tasks.

    `proven` says that no other grouping of as many networks is expected to gain more.
    """

    networks: tuple[ChosenNetwork, ...]
    gains: dict[str, float]
    proven: bool = True

    @property
    def gain(self) -> float:
        """The mean over tasks of the expected gain over learning each alone."""
        return float(np.mean(list(self.gains.values())))


def choose_groups(tasks: Sequence[str], gains: Floats, networks: int, *, helpers: bool = False) -> Grouping:
    """The grouping into at most `networks` networks whose expected gain is the largest; a tie takes fewer networks.

    `gains` [T, T] are those of the task of a row with that of a column. All tasks in one network and each alone are
    among what it is chosen from, where `networks` allows. BadInput for no task, and for fewer than one network.

    >>> pairs = np.array([[0.0, 2.0, -1.0], [1.0, 0.0, -1.0], [-2.0, 0.0, 0.0]])
    >>> [network.serves for network in choose_groups(["rank", "card", "face"], pairs, 2).networks]
    [('rank', 'card'), ('face',)]
    """
    if not tasks or networks < 1:
        raise BadInput(f"{len(tasks)} tasks in {networks} networks: both must be at least 1")
    networks = min(networks, len(tasks))
    search = _Search(np.asarray(gains, np.float64), helpers=helpers)
    blocks, proven = search.exact(networks) if len(tasks) <= EXACT else search.bounded(networks)
    found = grouping_of(tasks, gains, [[tasks[code] for code in block] for block in sorted(blocks)], helpers=helpers)
    return Grouping(networks=found.networks, gains=found.gains, proven=proven)


def grouping_of(
    tasks: Sequence[str], gains: Floats, served: Sequence[Sequence[str]], *, helpers: bool = False
) -> Grouping:
    """The grouping in which each of these lists of tasks is served by a network, with the `helpers` that pay there."""
    search = _Search(np.asarray(gains, np.float64), helpers=helpers)
    place = {name: code for code, name in enumerate(tasks)}
    networks, expected = [], dict[str, float]()
    for names in served:
        block = frozenset(place[name] for name in names)
        learns = sorted(block | (search.best(block)[1] if helpers else frozenset()))
        networks.append(
            ChosenNetwork(serves=tuple(names), helpers=tuple(tasks[code] for code in learns if code not in block))
        )
        for code in block:
            others = [other for other in learns if other != code]
            expected[tasks[code]] = float(gains[code, others].mean()) if others else 0.0
    return Grouping(networks=tuple(networks), gains={name: expected[name] for name in tasks})


class _Search:
    """Divisions of tasks into blocks, each served by one network."""

    def __init__(self, gains: Floats, *, helpers: bool) -> None:
        self.gains, self.count, self.with_helpers = gains.copy(), len(gains), helpers
        np.fill_diagonal(self.gains, 0.0)
        self.best = lru_cache(maxsize=None)(self._best)
        """The largest sum of expected gains of the tasks of a block, and the helpers that give it."""
        self.plain = lru_cache(maxsize=None)(self._plain)

    def worth(self, block: frozenset[int]) -> float:
        """The sum of the expected gains of the tasks of a block."""
        return self.best(block)[0] if self.with_helpers else self.plain(block)

    def exact(self, networks: int) -> tuple[list[tuple[int, ...]], bool]:
        """The best division, over all of them: best[mask] of k networks is that of a block with the lowest task of
        `mask`, and of k - 1 networks for the rest."""
        full = 1 << self.count
        worth = np.array([self.worth(frozenset(_members(mask))) if mask else 0.0 for mask in range(full)], np.float64)
        parts = [_blocks(mask) if mask else np.zeros(0, np.int64) for mask in range(full)]
        best, taken = worth.copy(), list[Ints]()
        for _ in range(1, networks):
            found, blocks = best.copy(), np.zeros(full, np.int64)
            for mask in range(1, full):
                values = worth[parts[mask]] + best[mask ^ parts[mask]]
                place = int(values.argmax())
                if values[place] > found[mask] + TIE:
                    found[mask], blocks[mask] = values[place], parts[mask][place]
            best = found
            taken.append(blocks)
            if not blocks.any():  # one more network gains nothing for any part of the tasks
                break
        return _divided(full - 1, taken), True

    def bounded(self, networks: int) -> tuple[list[tuple[int, ...]], bool]:
        """The best division by branch and bound: tasks are placed one by one, those with most at stake first.

        What placed tasks can reach is the worth of their blocks with the best helpers, since a task that joins later is
        one of these; what the others can reach is their best partner.
        """
        stake = np.abs(self.gains).sum(axis=0) + np.abs(self.gains).sum(axis=1)
        order = np.argsort(-stake, kind="stable").tolist()
        alone = [self.best(frozenset([code]))[0] for code in order]
        rest = np.concatenate([np.cumsum(alone[::-1])[::-1], [0.0]])
        best = self._greedy(networks)
        value = self._total(best)
        queue: list[tuple[float, int, int, tuple[frozenset[int], ...]]] = [(-rest[0], 0, 0, ())]
        looked = 0
        while queue and looked < NODES:
            bound, _, placed, blocks = heapq.heappop(queue)
            if -bound <= value + TIE:
                return [tuple(sorted(block)) for block in best], True
            if placed == self.count:
                best, value = list(blocks), -bound
                continue
            for more in _placements(blocks, order[placed], networks):
                looked += 1
                last = placed + 1 == self.count
                reach = sum(self.worth(block) if last else self.best(block)[0] for block in more) + rest[placed + 1]
                if reach > value + TIE:
                    heapq.heappush(queue, (-reach, -looked, placed + 1, more))
        return [tuple(sorted(block)) for block in best], not queue

    def _greedy(self, networks: int) -> list[frozenset[int]]:
        """A good division: from each task alone, or all together, by moves of one task while one gains."""
        starts = [[frozenset(range(self.count))]]
        if networks == self.count:
            starts.append([frozenset([code]) for code in range(self.count)])
        return max((self._moved(start, networks) for start in starts), key=self._total)

    def _moved(self, blocks: list[frozenset[int]], networks: int) -> list[frozenset[int]]:
        value = self._total(blocks)
        while True:
            without = [tuple(block - {code} for block in blocks if block != {code}) for code in range(self.count)]
            found = [more for code, rest in enumerate(without) for more in _placements(rest, code, networks)]
            best = max(found, key=self._total)
            if (reached := self._total(best)) <= value + TIE:
                return blocks
            blocks, value = list(best), reached

    def _total(self, blocks: Iterable[frozenset[int]]) -> float:
        return sum(map(self.worth, blocks))

    def _plain(self, block: frozenset[int]) -> float:
        own = sorted(block)
        return float(self.gains[np.ix_(own, own)].sum()) / max(1, len(own) - 1)

    def _best(self, block: frozenset[int]) -> tuple[float, frozenset[int]]:
        """The worth of a block, and its helpers. Of m tasks in a network each served one gains its sum over m - 1, so
        the best m - |block| helpers are those that give the block most in sum; more join while the mean grows."""
        own = sorted(block)
        inside = float(self.gains[np.ix_(own, own)].sum())
        others = [code for code in range(self.count) if code not in block]
        gifts = self.gains[np.ix_(own, others)].sum(axis=0)
        order = np.argsort(-gifts, kind="stable")
        totals = inside + np.concatenate([[0.0], np.cumsum(gifts[order])])
        sizes = len(own) + np.arange(len(totals))
        values = np.where(sizes > 1, totals / np.maximum(sizes - 1, 1), 0.0)
        most = int(np.flatnonzero(values >= values.max() - TIE)[0])
        return float(values[most]), frozenset(others[place] for place in order[:most].tolist())


def _placements(blocks: tuple[frozenset[int], ...], code: int, networks: int) -> list[tuple[frozenset[int], ...]]:
    """The ways to place one more task: with any block, or in one of its own."""
    found = [(*blocks[:at], blocks[at] | {code}, *blocks[at + 1 :]) for at in range(len(blocks))]
    return [*found, (*blocks, frozenset([code]))] if len(blocks) < networks else found


def _members(mask: int) -> list[int]:
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]


def _blocks(mask: int) -> Ints:
    """The parts of `mask` that hold its lowest task."""
    low = mask & -mask
    parts = np.zeros(1, np.int64)
    for bit in _members(mask ^ low):
        parts = np.concatenate([parts, parts | 1 << bit])
    return parts | low


def _divided(mask: int, taken: Sequence[Ints]) -> list[tuple[int, ...]]:
    """The blocks of the best division of `mask`, from the first block at each number of networks (0: fewer will do)."""
    blocks = []
    for choice in reversed(taken):
        blocks.append(int(choice[mask]))
        mask ^= blocks[-1]
    return [tuple(_members(block)) for block in [*blocks, mask] if block]
