"""Shards as they lie on a disk: mapped into memory on first use, a bounded number at a time."""

import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from curation.errors import Damaged, NotFound

__all__ = ["MAX_OPEN", "Order", "Shard", "Shards", "Source"]

MAX_OPEN = 128
"""Shards mapped at a time; a mapping holds one file descriptor."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar of a pack, `size` bytes long, with `images` of the pack's images; `name` is its sha256 and ".tar"."""

    name: str
    size: int
    images: int


Order = Callable[[], tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]]
"""Shards and offsets [N] of the images that will be read, in their order; asked for once, when reading begins."""


class Source(Protocol):
    """Bytes of a pack's shards, by number, for many threads at a time."""

    def follow(self, order: Order) -> None: ...
    def read(self, shard: int, offset: int, size: int) -> memoryview: ...
    def read_beside(self, shard: int, offset: int, size: int) -> memoryview: ...
    def whole(self, shard: int) -> memoryview: ...
    def name(self, shard: int) -> str: ...
    def close(self) -> None: ...


class Shards:
    """Bytes of a pack's shards, by number. Safe to use from many threads."""

    def __init__(self, folder: Path, shards: Sequence[Shard], max_open: int = MAX_OPEN) -> None:
        self._folder, self._shards, self._max_open = folder, shards, max_open
        self._maps: OrderedDict[int, memoryview] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, shard: int, offset: int, size: int) -> memoryview:
        """`size` bytes of a shard, without a copy; Damaged if the shard does not reach that far."""
        view = self._map(shard)
        if offset < 0 or offset + size > len(view):
            raise Damaged(
                f"{self.name(shard)}: has no bytes {offset} to {offset + size}; its index is another pack's, pack again"
            )
        return view[offset : offset + size]

    def follow(self, order: Order) -> None:
        """Files on this machine may be read in any order."""

    read_beside = read

    def whole(self, shard: int) -> memoryview:
        """All bytes of a shard, without a copy."""
        return self._map(shard)

    def name(self, shard: int) -> str:
        """The file name of a shard."""
        return self._shards[shard].name

    def close(self) -> None:
        """Let go of all files; a view that is still in use keeps its own."""
        with self._lock:
            self._maps.clear()

    def _map(self, shard: int) -> memoryview:
        with self._lock:
            view = self._maps.get(shard)
            if view is None:
                view = self._maps[shard] = self._open(self._shards[shard])
                if len(self._maps) > self._max_open:
                    self._maps.popitem(last=False)  # unmapped once the last view of it is gone
            else:
                self._maps.move_to_end(shard)
            return view

    def _open(self, shard: Shard) -> memoryview:
        path = self._folder / shard.name
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise NotFound(f"{path}: this shard of the pack is not there; restore it, or pack again") from None
        try:
            # Checked first: a mapping past the end of a file would kill the process when it is read.
            if (size := os.fstat(descriptor).st_size) != shard.size:
                raise Damaged(f"{path}: {size} bytes, its pack says {shard.size}; restore it, or pack again")
            return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
        finally:
            os.close(descriptor)
