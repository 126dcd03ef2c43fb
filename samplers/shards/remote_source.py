"""The bytes of a pack that lies at a URL: through the cache in plan order, each image checked when it arrives."""

import hashlib
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from curation.arrays import Int32s, Ints
from curation.errors import BadInput, Damaged
from samplers.shards.open_shards import ReadOrder, Shard
from samplers.shards.prefetcher import Cache, Prefetcher
from samplers.shards.remote_files import TRIES, RemoteFiles
from samplers.shards.row_index import RowIndex

__all__ = ["RemoteSource"]

_WAIT = 0.2  # seconds before bytes that came wrong are asked for again


class RemoteSource:
    """A `Source` of `open_shards` over shards at a URL. `bytes` counts those of the images that were asked for."""

    def __init__(
        self,
        remote: RemoteFiles,
        shards: Sequence[Shard],
        places: tuple[Int32s, Ints, Int32s],
        hashes: pa.StringArray,
        cache: Cache,
    ) -> None:
        self._remote, self._shards, self._hashes, self._cache = remote, shards, hashes, cache
        self._shard, self._offset, self._size = places
        self._rows = RowIndex(self._shard, self._offset, [shard.name for shard in shards])
        self._order: ReadOrder | None = None
        self._ahead: Prefetcher | None = None
        self._lock = threading.RLock()
        self._closed = False
        self.bytes = 0

    def set_read_order(self, order: ReadOrder) -> None:
        """From now on, reads come in this order; fetching begins with the first of them."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead, self._order = None, order

    def read(self, shard: int, offset: int, size: int) -> memoryview:
        """Bytes of an image whose turn it is; Failed when they cannot be had, Damaged when they are others."""
        return self._course().take(self._rows.at(shard, offset))

    def read_out_of_order(self, shard: int, offset: int, size: int) -> memoryview:
        """Bytes of an image whose turn it is not."""
        return self._fetch([self._rows.at(shard, offset)])[0]

    def read_shard(self, shard: int) -> memoryview:
        """All bytes of a shard, as they were packed; Damaged when others come each time."""
        return self._remote.get_as(path := self._path(shard), partial(self._sound, path))

    def name(self, shard: int) -> str:
        """The file name of a shard."""
        return self._shards[shard].name

    def close(self, wait: bool = True) -> None:
        """End the threads and let go of the cache."""
        self._closed = True
        with self._lock:
            if self._ahead is not None:
                self._ahead.close(wait)

    def _course(self) -> Prefetcher:
        with self._lock:
            if self._closed or self._order is None:
                raise BadInput("the stream is closed: nothing more is read; open it again")
            if self._ahead is None:
                rows = self._rows.all_at(*self._order())
                self._ahead = Prefetcher(rows, self._size, self._shard, self._fetch, self._cache)
                if self._closed:  # meanwhile, by the collector of garbage
                    self._ahead.close(wait=False)
            return self._ahead

    def _path(self, shard: int) -> str:
        return f"shards/{self.name(shard)}"

    def _fetch(self, asked: list[int]) -> list[memoryview]:
        """Bytes of images of one shard, in the order of `asked`, as they were packed."""
        found: dict[int, memoryview] = {}
        shard, rows = int(self._shard[asked[0]]), sorted(asked, key=self._offset.__getitem__)
        for tried in range(TRIES):
            parts = self._remote.ranges(self._path(shard), self._offset[rows].tolist(), self._size[rows].tolist())
            self.bytes += int(self._size[rows].sum())
            sound = [
                hashlib.sha256(part).hexdigest() == self._hashes[row].as_py()
                for row, part in zip(rows, parts, strict=True)
            ]
            found |= {row: part for row, part, good in zip(rows, parts, sound, strict=True) if good}
            rows = [row for row, good in zip(rows, sound, strict=True) if not good]
            if not rows:
                return [found[row] for row in asked]
            time.sleep(_WAIT * tried)
        told = f"{self._remote.url}/{self._path(shard)}: {TRIES} times not the bytes that were packed"
        raise Damaged(f"{told} (at {self._offset[rows[0]]}); the shard has changed, delete it there, then copy again")

    def _sound(self, path: str, data: bytes) -> memoryview:
        if hashlib.sha256(data).hexdigest() != Path(path).stem:
            told = f"{self._remote.url}/{path}: not the bytes that were packed"
            raise Damaged(f"{told}; the shard has changed, delete it there, then copy again")
        return memoryview(data)
