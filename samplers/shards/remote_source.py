"""The bytes of a pack that lies at a URL: through the cache in plan order, each image checked when it arrives."""

import hashlib
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.errors import BadInput, Damaged
from curation.files.retries import retried
from samplers.shards.open_shards import Order, Shard
from samplers.shards.prefetcher import Cache, Prefetcher
from samplers.shards.remote_files import Remote
from samplers.shards.row_index import RowIndex

__all__ = ["RemoteSource"]


class RemoteSource:
    """A `Source` of `open_shards` over shards at a URL. `bytes` counts those of the images that were asked for."""

    def __init__(
        self,
        remote: Remote,
        shards: Sequence[Shard],
        places: tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int32]],
        hashes: pa.StringArray,
        cache: Cache,
    ) -> None:
        self._remote, self._shards, self._hashes, self._cache = remote, shards, hashes, cache
        self._shard, self._offset, self._size = places
        self._rows = RowIndex(self._shard, self._offset, [shard.name for shard in shards])
        self._order: Order | None = None
        self._ahead: Prefetcher | None = None
        self._lock = threading.RLock()
        self._closed = False
        self.bytes = 0

    def follow(self, order: Order) -> None:
        """From now on, reads come in this order; fetching begins with the first of them."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead, self._order = None, order

    def read(self, shard: int, offset: int, size: int) -> memoryview:
        """Bytes of an image whose turn it is; Failed when they cannot be had, Damaged when they are others."""
        return self._course().take(self._rows.at(shard, offset))

    def read_beside(self, shard: int, offset: int, size: int) -> memoryview:
        """Bytes of an image whose turn it is not."""
        return self._fetch([self._rows.at(shard, offset)])[0]

    def whole(self, shard: int) -> memoryview:
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
        path, rows = self._path(int(self._shard[asked[0]])), sorted(asked, key=self._offset.__getitem__)
        retried(partial(self._fetch_missing, path, rows, found), Damaged, self._remote.backoff)
        return [found[row] for row in asked]

    def _fetch_missing(self, path: str, rows: list[int], found: dict[int, memoryview]) -> None:
        """Add the images of `rows` that `found` lacks; Damaged when the bytes of one are not those that were packed."""
        missing = [row for row in rows if row not in found]
        parts = self._remote.ranges(path, self._offset[missing].tolist(), self._size[missing].tolist())
        self.bytes += int(self._size[missing].sum())
        for row, part in zip(missing, parts, strict=True):
            if hashlib.sha256(part).hexdigest() == self._hashes[row].as_py():
                found[row] = part
        if wrong := [row for row in missing if row not in found]:
            told = f"{self._remote.url}/{path}: {self._remote.backoff.tries} times not the bytes that were packed"
            raise Damaged(
                f"{told} (at {self._offset[wrong[0]]}); the shard has changed, delete it there, then copy again"
            )

    def _sound(self, path: str, data: bytes) -> memoryview:
        if hashlib.sha256(data).hexdigest() != Path(path).stem:
            told = f"{self._remote.url}/{path}: not the bytes that were packed"
            raise Damaged(f"{told}; the shard has changed, delete it there, then copy again")
        return memoryview(data)
