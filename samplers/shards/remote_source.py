"""Reads a pack at a URL: through the cache in the order of the plan, with every image verified on arrival."""

import hashlib
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from curation.arrays import Int32s, Ints
from curation.errors import BadInput, Damaged
from curation.files.remote_files import RemoteFiles
from curation.files.retries import retried
from samplers.shards.open_shards import ReadOrder, Shard
from samplers.shards.prefetcher import Cache, Prefetcher
from samplers.shards.row_index import RowIndex

__all__ = ["RemoteSource"]


class RemoteSource:
    """A `ShardSource` over shards at a URL. `bytes` counts the bytes of all requested images."""

    def __init__(
        self,
        remote: RemoteFiles,
        shards: Sequence[Shard],
        locations: tuple[Int32s, Ints, Int32s],
        hashes: pa.StringArray,
        cache: Cache,
    ) -> None:
        self._remote, self._shards, self._hashes, self._cache = remote, shards, hashes, cache
        self._shard, self._offset, self._size = locations
        self._rows = RowIndex(self._shard, self._offset, [shard.name for shard in shards])
        self._order: ReadOrder | None = None
        self._ahead: Prefetcher | None = None
        self._lock = threading.RLock()
        self._closed = False
        self.bytes = 0

    def set_read_order(self, order: ReadOrder) -> None:
        """Set the order of the reads that follow; prefetching begins with the first read."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead, self._order = None, order

    def read(self, shard: int, offset: int, size: int) -> memoryview:
        """The bytes of the next image in order; Failed if it cannot be fetched, Damaged if its bytes have changed."""
        return self._prefetcher().take(self._rows.row(shard, offset))

    def read_out_of_order(self, shard: int, offset: int, size: int) -> memoryview:
        """The bytes of any image, around the cache."""
        return self._fetch([self._rows.row(shard, offset)])[0]

    def read_shard(self, shard: int) -> memoryview:
        """All bytes of a shard; Damaged if every attempt returns other bytes than were packed."""
        return self._remote.get_as(path := self._path(shard), partial(self._verified, path))

    def name(self, shard: int) -> str:
        """The file name of a shard."""
        return self._shards[shard].name

    def close(self, wait: bool = True) -> None:
        """End the threads and release the cache."""
        self._closed = True
        with self._lock:
            if self._ahead is not None:
                self._ahead.close(wait)

    def _prefetcher(self) -> Prefetcher:
        with self._lock:
            if self._closed or self._order is None:
                raise BadInput("the stream is closed: it reads no more images; open it again")
            if self._ahead is None:
                rows = self._rows.rows(*self._order())
                self._ahead = Prefetcher(rows, self._size, self._shard, self._fetch, self._cache)
                if self._closed:  # by the garbage collector, since the check above
                    self._ahead.close(wait=False)
            return self._ahead

    def _path(self, shard: int) -> str:
        return f"shards/{self.name(shard)}"

    def _fetch(self, requested: list[int]) -> list[memoryview]:
        """The verified bytes of images of one shard, in the order of the rows `requested`."""
        found: dict[int, memoryview] = {}
        path, rows = self._path(int(self._shard[requested[0]])), sorted(requested, key=self._offset.__getitem__)
        retried(partial(self._fetch_missing, path, rows, found), Damaged, self._remote.backoff)
        return [found[row] for row in requested]

    def _fetch_missing(self, path: str, rows: list[int], found: dict[int, memoryview]) -> None:
        """Add the images of `rows` that `found` lacks; Damaged when the bytes of one are not those that were packed."""
        missing = [row for row in rows if row not in found]
        parts = self._remote.ranges(path, self._offset[missing].tolist(), self._size[missing].tolist())
        self.bytes += int(self._size[missing].sum())
        for row, part in zip(missing, parts, strict=True):
            if hashlib.sha256(part).hexdigest() == self._hashes[row].as_py():
                found[row] = part
        if wrong := [row for row in missing if row not in found]:
            problem = f"{self._remote.url}/{path}: {self._remote.backoff.tries} times not the bytes that were packed"
            raise Damaged(
                f"{problem} (at {self._offset[wrong[0]]}); the shard has changed, delete it there, then copy again"
            )

    def _verified(self, path: str, data: bytes) -> memoryview:
        if hashlib.sha256(data).hexdigest() != Path(path).stem:
            problem = f"{self._remote.url}/{path}: not the bytes that were packed"
            raise Damaged(f"{problem}; the shard has changed, delete it there, then copy again")
        return memoryview(data)
