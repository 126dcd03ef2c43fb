"""Overlap of slices: how many samples each pair of slices shares."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from curation.catalog.snapshot import Snapshot
from curation.rows import tabled

__all__ = ["Overlap", "overlaps"]

Bits = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Two slices: the number of samples in each and in both, and `jaccard`: both over either (0 if both are empty)."""

    slice: str
    other: str
    samples: int
    others: int
    both: int
    jaccard: float


@tabled(Overlap)
def overlaps(now: Snapshot) -> list[Overlap]:
    """Each pair of slices, the largest Jaccard index first. Slices over predictions are left out.

    >>> {slice_ for pair in overlaps(now) for slice_ in (pair.slice, pair.other)} == set(now.slices())
    True
    """
    slices = {name: part.predicate for name, part in now.slices().items() if not part.reads_predictions}
    members = now.members_of(slices)
    last = max((int(ids[-1]) for ids in members.values() if len(ids)), default=0)
    bits = {name: _bits(ids, last + 1) for name, ids in members.items()}
    rows = []
    for name, other in combinations(members, 2):
        both = int(np.bitwise_count(bits[name] & bits[other]).sum())
        sizes = len(members[name]), len(members[other])
        jaccard = both / max(1, sum(sizes) - both)
        rows.append(Overlap(slice=name, other=other, samples=sizes[0], others=sizes[1], both=both, jaccard=jaccard))
    return sorted(rows, key=lambda row: -row.jaccard)


def _bits(ids: npt.NDArray[np.int64], width: int) -> Bits:
    """One bit for each sample: eight times smaller than booleans, and counted a word at a time."""
    marks = np.zeros(width, np.bool_)
    marks[ids] = True
    return np.packbits(marks)
