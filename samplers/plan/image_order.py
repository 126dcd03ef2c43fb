"""Which image each draw of a stratum is: hot ones spread evenly, the others in one sweep over the shards.

A sweep is as many draws as there are labelled images, or nearly: a whole number of sweeps makes up a phase. A stratum
whose images its task would draw more than twice in a sweep is *hot*: its images come one after the other, each as far
from its next time as there are images. All other strata follow one common cursor over the shards, so that a window of
draws touches few shards; which images a stratum draws in which sweep follows a hashed order of its own, so that none is
drawn again before all others were.
"""

import numpy as np
import numpy.typing as npt

from samplers.plan.interleave import Hashes, hash64, mixed
from samplers.plan.rates import Ints

__all__ = ["HOT", "Sweep"]

HOT = 2
"""Draws of one image in one sweep, for one task, from which on it is hot."""

WINDOW = 16
"""Shards over which images are shuffled: neighbours in a shard are often frames of one drive."""

LAG = 50
"""An image's second draw in a sweep comes one part in so many of the sweep after its first."""

_FRACTION = 24
_PLACE = 46  # bits of a place in the sweep: 22 for the shard, 24 below it

Rows = npt.NDArray[np.int32]


class Sweep:
    """The order in which the samples [S] of a plan come by, given the shard of each."""

    def __init__(self, shard: npt.NDArray[np.int32], seed: int) -> None:
        self._seed = seed
        self._hash: Hashes = hash64(seed, np.arange(len(shard)))
        shards = np.unique(shard)
        rank = np.zeros(int(shards.max()) + 1, np.int64)
        rank[shards[np.argsort(hash64(seed, -1, shards.astype(np.int64)), kind="stable")]] = np.arange(len(shards))
        jitter = (self._hash >> np.uint64(64 - _FRACTION)).astype(np.int64) * WINDOW
        self._place = (rank[shard] << _FRACTION) + jitter
        self._lag = ((len(shards) + WINDOW) << _FRACTION) // LAG

    def sweeps(self, draws: int) -> int:
        """How many sweeps a phase of so many draws has, at least 1."""
        return max(1, round(draws / len(self._place)))

    def hot(self, counts: Ints, sizes: Ints, draws: int) -> npt.NDArray[np.bool_]:
        """Whether strata [S] of `sizes` images, drawn `counts` times in a phase of `draws`, are hot."""
        return np.asarray(counts > HOT * self.sweeps(draws) * sizes, np.bool_)

    def choose(self, members: Rows, count: int, *, cell: tuple[int, int], earlier: int, draws: int) -> Rows:
        """The samples of `count` draws of a stratum, in the order of the draws.

        `members` are its samples, ascending; `cell` is its task and stratum. It was drawn `earlier` times in the phases
        before, and the phase has `draws` draws. No image comes again before all others of the stratum did.
        """
        size = len(members)
        order = np.argsort(mixed(self._hash[members] ^ hash64(self._seed, *cell)), kind="stable")
        turn = np.arange(count)
        place = order[(earlier + turn) % size]
        if self.hot(np.array(count), np.array(size), draws):
            return np.asarray(members[place], np.int32)
        sweep = turn * self.sweeps(draws) // max(1, count)
        again = (turn - np.searchsorted(sweep, sweep)) // size
        when = (sweep << _PLACE) + self._place[members][place] + again * self._lag
        return np.asarray(members[place[np.argsort(when, kind="stable")]], np.int32)
