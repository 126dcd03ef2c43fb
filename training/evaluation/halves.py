"""Two halves of the groups of a split: one chooses, the other confirms, so no image judges what it chose."""

import zlib

import numpy as np

from curation.arrays import Bools
from training.evaluation.predictions import Samples

__all__ = ["FEWEST", "halves"]

FEWEST = 2
"""Groups that a half needs."""


def halves(samples: Samples, split: str) -> tuple[Bools, Bools]:
    """Which samples [N] of a split choose, and which confirm: whole groups, in the order of a hash of their first key.

    The same groups are in the same halves whatever else the catalog holds.
    """
    here = np.flatnonzero(samples.splits == split)
    _, first, codes = np.unique(samples.groups[here], return_index=True, return_inverse=True)
    keys = [samples.keys[int(row)].as_py() for row in here[first]]
    order = np.argsort([zlib.crc32(key.encode()) for key in keys], kind="stable")
    side = np.zeros(len(keys), np.bool_)
    side[order[1::2]] = True
    found = [np.zeros(len(samples.ids), np.bool_) for _ in range(2)]
    for half, confirming in zip(found, (False, True), strict=True):
        half[here[side[codes] == confirming]] = True
    return found[0], found[1]
