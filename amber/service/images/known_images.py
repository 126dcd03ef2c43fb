"""One image among all others without a scan of the catalog: hashes of the keys and of the pictures stay in memory.

Twenty bytes an image; comparing one with a million takes 10 ms. Ids of samples are never used again, so after a commit
only those of new samples are read.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.arrays import Ints, UInt64s
from curation.catalog.snapshot import Snapshot

__all__ = ["KnownImages"]

KEY_BITS: Final = "CAST(hash({}) & 4294967295 AS UINTEGER)"
"""SQL of 32 bits of the hash of a key: of 10 million, another key has those of a given one in 1 case of 400."""


@dataclass(frozen=True, kw_only=True)
class _Hashes:
    """By id, sorted: 32 bits of the hash of each key, and the perceptual hash."""

    ids: Ints
    keys: npt.NDArray[np.uint32]
    pictures: UInt64s


NONE: Final = _Hashes(ids=np.zeros(0, np.int64), keys=np.zeros(0, np.uint32), pictures=np.zeros(0, np.uint64))


class KnownImages:
    """The hashes of a catalog, read when somebody asks first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hashes = NONE
        self._at = (0, "")
        """The commit up to which they are, and its digest."""

    def sample(self, now: Snapshot, key: str) -> dict[str, Any]:
        """`Snapshot.sample` of a key."""
        ((own,),) = now.view.rows(f"SELECT {KEY_BITS.format('CAST(? AS VARCHAR)')}", [key])
        known = self._known(now)
        return now.sample(key, among=known.ids[known.keys == own])

    def near(self, now: Snapshot, sample: Mapping[str, Any], distance: int) -> pa.Table:
        """`Snapshot.near_duplicates` of a sample, a row of `Snapshot.samples`."""
        known = self._known(now)
        own = known.pictures[np.searchsorted(known.ids, sample["sample_id"])]
        near = known.ids[np.bitwise_count(known.pictures ^ own) <= distance]
        return now.near_duplicates(sample["key"], distance, among=near)

    def _known(self, now: Snapshot) -> _Hashes:
        """Those of the samples up to this commit at least; maybe also of samples that were forgotten."""
        with self._lock:
            if not self._follows(now):
                self._hashes, self._at = NONE, (0, "")
            if now.commit > self._at[0]:
                self._hashes = _with_new(self._hashes, now)
                self._at = (now.commit, now.digest)
            return self._hashes

    def _follows(self, now: Snapshot) -> bool:
        """Whether the history of a snapshot holds the commit up to which the hashes are: not after another catalog was
        put in the place of this one. A snapshot of an older commit is taken to be of the same history."""
        commit, digest = self._at
        return not 0 < commit <= now.commit or now.log.of([commit])[commit]["digest"] == digest


def _with_new(known: _Hashes, now: Snapshot) -> _Hashes:
    """The hashes with those of the samples of a snapshot that they lack."""
    after = int(known.ids[-1]) if len(known.ids) else -1
    query = f"""SELECT sample_id, {KEY_BITS.format("key")} AS key, phash FROM sample
        WHERE sample_id > ? AND commit_id <= ? ORDER BY sample_id"""
    found = now.view.table(query, [after, now.commit])
    if not len(found):
        return known
    return _Hashes(
        ids=np.concatenate([known.ids, found["sample_id"].to_numpy()]),
        keys=np.concatenate([known.keys, found["key"].to_numpy()]),
        pictures=np.concatenate([known.pictures, found["phash"].to_numpy()]),
    )
