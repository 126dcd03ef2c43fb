"""Near-duplicates of one image among all others, without a scan of the catalog: the perceptual hashes stay in memory.

Sixteen bytes an image; comparing one with a million takes 10 ms. Ids of samples are never used again, so after a
commit only the hashes of new samples are read.
"""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from curation.arrays import Ints, UInt64s
from curation.catalog.snapshot import Snapshot

__all__ = ["NearImages"]


class NearImages:
    """The hashes of a catalog, read when somebody asks first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: Ints = np.zeros(0, np.int64)
        self._hashes: UInt64s = np.zeros(0, np.uint64)
        self._at = (0, "")
        """The commit up to which they are, and its digest."""

    def of(self, now: Snapshot, sample: Mapping[str, Any], distance: int) -> pa.Table:
        """`Snapshot.near_duplicates` of a sample, a row of `Snapshot.samples`."""
        ids, hashes = self._known(now)
        own = hashes[np.searchsorted(ids, sample["sample_id"])]
        near = ids[np.bitwise_count(hashes ^ own) <= distance]
        return now.near_duplicates(sample["key"], distance, among=near)

    def _known(self, now: Snapshot) -> tuple[Ints, UInt64s]:
        """Ids and hashes of the samples up to this commit at least, by id; maybe of samples that were forgotten."""
        with self._lock:
            if not self._follows(now):
                self._ids, self._hashes, self._at = self._ids[:0], self._hashes[:0], (0, "")
            if now.commit > self._at[0]:
                after = int(self._ids[-1]) if len(self._ids) else -1
                query = "SELECT sample_id, phash FROM sample WHERE sample_id > ? AND commit_id <= ? ORDER BY sample_id"
                found = now.view.table(query, [after, now.commit])
                self._ids = np.concatenate([self._ids, found["sample_id"].to_numpy()])
                self._hashes = np.concatenate([self._hashes, found["phash"].to_numpy()])
                self._at = (now.commit, now.digest)
            return self._ids, self._hashes

    def _follows(self, now: Snapshot) -> bool:
        """Whether the history of a snapshot holds the commit up to which the hashes are: not after another catalog was
        put in the place of this one. A snapshot of an older commit is taken to be of the same history."""
        commit, digest = self._at
        return not 0 < commit <= now.commit or now.log.of([commit])[commit]["digest"] == digest
