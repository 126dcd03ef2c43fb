"""The joint group-swap test: whether two runs differ by more than chance, in many slices at once.

If two runs are exchangeable (two trainings that differ in the seed alone, for example), then exchanging their
predictions within any whole groups of images leaves the joint distribution of all figures unchanged. So the figures of
random exchanges are a sample of what chance brings: exact for any metric, whatever a group's images share.
Every slice sees the same exchange, so the largest statistic over overlapping slices is compared with its own
distribution (step-down max-T, Westfall & Young 1993). For means it is the sign-flip test over groups.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import numpy as np
from scipy import sparse

from curation.arrays import Floats, Ints
from training.judging.group_sums import PairedSums

__all__ = ["SWAPS", "Swaps", "Tail", "false_discovery_rates"]

Tail = Literal["drop", "both"]
"""What counts as a difference: only that the second run is worse, or either."""

SWAPS = 4_000
"""Random exchanges of a test."""
MOST_SWAPS = 400_000
"""Random exchanges with which the smallest p values of single tests are refined."""
RESOLVED = 20
"""Exchanges at least as extreme as the observed one from which on a p value is not refined."""
BLOCK = 4_000_000
"""Numbers held at once for a block of exchanges."""
WORK = 2_000_000
"""Sums of one figure that are exchanged while its p value is refined: those of a ranking are many."""
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Swaps:
    """Gains of the second run over the first [R, M], in M figures under R exchanges; the first row is the observed one.

    A gain is positive where the second run is better. It is 0 where a figure is undefined.

    >>> from training.evaluation.metrics import MeanSums
    >>> groups, ones = np.arange(6), np.ones(6)
    >>> worse = PairedSums.of_errors(MeanSums.of(ones, ones, groups), MeanSums.of(ones + 1, ones, groups))
    >>> test = Swaps.of([worse])
    >>> float(test.gains[0, 0]), len(test.gains), test.each("drop").tolist(), test.each("both").tolist()
    (-1.0, 64, [0.015625], [0.03125])
    """

    gains: Floats

    @classmethod
    def of(cls, parts: Sequence[PairedSums], *, swaps: int = SWAPS, seed: int = 0) -> Self:
        """The gains of every figure under the same `swaps` random exchanges, or under all if there are fewer."""
        deltas = [(part.second - part.first).tocsr() for part in parts]
        touched = [part.groups[np.diff(delta.indptr) > 0] for part, delta in zip(parts, deltas, strict=True)]
        active = np.unique(np.concatenate(touched)) if touched else np.empty(0, np.int64)
        moved = [_moved(part, delta, active) for part, delta in zip(parts, deltas, strict=True)]
        totals = [(_total(part.first), _total(part.second)) for part in parts]
        blocks = []
        widest = max([len(active), *(part.first.shape[1] for part in parts)])
        for exchanged in _exchanges(len(active), swaps, seed, size=max(1, BLOCK // max(1, widest))):
            columns = [
                _gain(part, total, places, exchanged) for part, total, places in zip(parts, totals, moved, strict=True)
            ]
            blocks.append(np.stack(columns, axis=1) if columns else np.empty((exchanged.shape[1], 0)))
        return cls(gains=np.concatenate(blocks))

    def each(self, tail: Tail) -> Floats:
        """The p value [M] of each figure on its own."""
        observed, hits = self._statistics(tail, slice(1))[0], np.zeros(self.gains.shape[1], np.int64)
        for rows in self._blocks():
            hits += (self._statistics(tail, rows) >= observed - ROUNDING).sum(axis=0)
        return np.asarray(hits / len(self.gains), np.float64)

    def step_down(self, tail: Tail) -> Floats:
        """The p value [M] of each figure, adjusted for all M: the chance that any true null is rejected is at most p.

        Figures are scaled by their standard deviation under exchanges, so a slice of few groups is not drowned by
        large ones.
        """
        observed = self._statistics(tail, slice(1))[0]
        order, hits = np.argsort(-observed, kind="stable"), np.zeros(len(observed), np.int64)
        for rows in self._blocks():
            statistic = self._statistics(tail, rows)[:, order[::-1]]
            largest = np.maximum.accumulate(statistic, axis=1, out=statistic)[:, ::-1]
            hits += (largest >= observed[order] - ROUNDING).sum(axis=0)
        adjusted = np.empty(len(order))
        adjusted[order] = np.maximum.accumulate(hits / len(self.gains))
        return adjusted

    def _blocks(self) -> Iterator[slice]:
        """The exchanges in parts of about `BLOCK` numbers: of thousands of figures all at once take gigabytes."""
        size = max(1, BLOCK // max(1, self.gains.shape[1]))
        return (slice(start, start + size) for start in range(0, len(self.gains), size))

    @cached_property
    def _spread(self) -> Floats:
        """The standard deviation [M] of each figure's gains."""
        return np.asarray(np.sqrt(np.einsum("rm,rm->m", self.gains, self.gains) / len(self.gains)), np.float64)

    def _statistics(self, tail: Tail, rows: slice) -> Floats:
        """Some gains over their standard deviation, positive towards `tail`; 0 where nothing moves."""
        moves = self._spread > ROUNDING
        scaled = np.where(moves, self.gains[rows] / np.where(moves, self._spread, 1.0), 0.0)
        return -scaled if tail == "drop" else np.abs(scaled)


def false_discovery_rates(parts: Sequence[PairedSums], tail: Tail, *, seed: int = 0) -> tuple[Floats, Floats]:
    """The p value [M] of each figure, and the false discovery rate [M] at which it is found.

    Rates are those of Benjamini & Hochberg (1995). Small p values are refined with more exchanges, up to 400,000 (fewer
    for rankings): among thousands of figures, only p below 1 in thousands is found.
    """
    from scipy import stats

    if not parts:
        return np.empty(0), np.empty(0)
    p, swaps = Swaps.of(parts, seed=seed).each(tail), SWAPS
    most = np.array([min(MOST_SWAPS, WORK // part.first.shape[1]) for part in parts])
    while len(small := np.flatnonzero((p * swaps <= RESOLVED) & (swaps < most))):
        swaps *= 10
        p[small] = Swaps.of([parts[code] for code in small.tolist()], swaps=swaps, seed=seed + 1).each(tail)
    return p, np.asarray(stats.false_discovery_control(p), np.float64)


def _moved(part: PairedSums, delta: sparse.csr_array, active: Ints) -> tuple[Ints, sparse.csr_array]:
    """The places in `active` of the groups in which two runs differ, and how their sums do [K, groups]."""
    rows = np.flatnonzero(np.diff(delta.indptr) > 0)
    return np.searchsorted(active, part.groups[rows]), delta[rows].T.tocsr()


def _total(sums: sparse.csr_array) -> Floats:
    return np.asarray(sums.sum(axis=0), np.float64)


def _exchanges(groups: int, swaps: int, seed: int, *, size: int) -> Iterator[Floats]:
    """Blocks of exchanges [groups, r <= size]: 1 where a group is exchanged. The first is none; all if they are few."""
    if 2**groups <= swaps:
        yield ((np.arange(2**groups) >> np.arange(groups)[:, None]) & 1).astype(np.float64)
        return
    generator, left = np.random.Generator(np.random.Philox(seed)), swaps
    yield np.zeros((groups, 1))
    while left:
        here = min(size, left)
        bits = np.unpackbits(generator.integers(0, 256, (groups, (here + 7) // 8), np.uint8), axis=1, count=here)
        yield bits.astype(np.float64)
        left -= here


def _gain(
    part: PairedSums, totals: tuple[Floats, Floats], moved: tuple[Ints, sparse.csr_array], exchanged: Floats
) -> Floats:
    """The gain [r] of the second run over the first in one figure, under exchanges [groups, r]."""
    places, delta = moved
    change = (delta @ exchanged[places]).T
    gain = part.sign * (part.value(totals[1] - change) - part.value(totals[0] + change))
    return np.asarray(np.where(np.isfinite(gain), gain, 0.0), np.float64)
