"""Which image each draw of a stratum is: hot strata cycle through their images, other strata follow the shards.

A pass is about as many draws as there are labelled images; a phase consists of a whole number of passes. A stratum is
*hot* if its task draws each of its images more than twice per pass. A hot stratum cycles round-robin: an image repeats
only after all others of its stratum. All other strata share one cursor over the shards, so a window of draws touches
few shards. Each stratum assigns its images to passes in a hashed order of its own, so again an image repeats only after
all others of its stratum.
"""

import numpy as np

from curation.arrays import Bools, Int32s, Ints, UInt64s
from samplers.plan.interleave import hash64, mix64

__all__ = ["HOT", "ImageOrder"]

HOT = 2
"""Draws of one image per pass, for one task; a stratum above this is hot."""

WINDOW = 16
"""Number of shards over which images are shuffled: neighbours in a shard are often frames of one drive."""

LAG = 50
"""An image's second draw in a pass comes 1 / LAG of the pass after its first."""

_FRACTION = 24
_CURSOR = 46  # bits of a cursor position in the pass: 22 for the shard, 24 for the fraction below it


class ImageOrder:
    """The order of the samples [S] of a plan, given the `shard` of each and the plan's seed."""

    def __init__(self, shard: Int32s, seed: int) -> None:
        self._seed = seed
        self._hash: UInt64s = hash64(seed, np.arange(len(shard)))
        shards = np.unique(shard)
        rank = np.zeros(int(shards.max()) + 1, np.int64)
        rank[shards[np.argsort(hash64(seed, -1, shards.astype(np.int64)), kind="stable")]] = np.arange(len(shards))
        jitter = (self._hash >> np.uint64(64 - _FRACTION)).astype(np.int64) * WINDOW
        self._cursor = (rank[shard] << _FRACTION) + jitter
        self._lag = ((len(shards) + WINDOW) << _FRACTION) // LAG

    def passes(self, draws: int) -> int:
        """The number of passes in a phase of `draws` draws, at least 1."""
        return max(1, round(draws / len(self._cursor)))

    def hot(self, counts: Ints, sizes: Ints, draws: int) -> Bools:
        """Whether strata [K] of `sizes` images are hot that have `counts` of the `draws` draws of a phase."""
        return np.asarray(counts > HOT * self.passes(draws) * sizes, np.bool_)

    def choose(self, members: Int32s, count: int, *, cell: tuple[int, int], earlier: int, draws: int) -> Int32s:
        """The samples of `count` draws of a stratum [count], in the order of the draws.

        `members` are its samples in ascending order, `cell` its task and stratum, `earlier` its draws in the phases
        before, `draws` all draws of the phase. An image repeats only after all others of the stratum.
        """
        size = len(members)
        order = np.argsort(mix64(self._hash[members] ^ hash64(self._seed, *cell)), kind="stable")
        draw = np.arange(count)
        member = order[(earlier + draw) % size]
        if self.hot(np.array(count), np.array(size), draws):
            return np.asarray(members[member], np.int32)
        in_pass = draw * self.passes(draws) // max(1, count)
        repeat = (draw - np.searchsorted(in_pass, in_pass)) // size
        when = (in_pass << _CURSOR) + self._cursor[members][member] + repeat * self._lag
        return np.asarray(members[member[np.argsort(when, kind="stable")]], np.int32)
