"""Shards as they lie on a disk: opened on first use, a bounded number at a time.

An image is copied out of the page cache into memory that its thread uses again, which stays in the processor's own
cache: to map its pages, which are new nearly always, takes the kernel longer, and so does new memory.
"""

import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from curation.errors import Damaged, NotFound

__all__ = ["MAX_OPEN", "Order", "Shard", "Shards", "Source"]

MAX_OPEN = 128
"""Shards that are open at a time."""


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
        self._files: OrderedDict[int, _File] = OrderedDict()
        self._lock = threading.Lock()
        self._room = _Room()

    def read(self, shard: int, offset: int, size: int) -> memoryview:
        """`size` bytes of a shard, until the same thread reads again; Damaged if the shard does not reach that far."""
        self._check(shard, offset, size)
        file = self._file(shard)  # held, so that nobody closes it meanwhile
        room = self._room.of(size)
        if os.preadv(file.descriptor, [room], offset) != size:
            raise Damaged(f"{self._folder / self.name(shard)}: was cut off meanwhile; restore it, or pack again")
        return room

    def follow(self, order: Order) -> None:
        """Files on this machine may be read in any order."""

    def read_beside(self, shard: int, offset: int, size: int) -> memoryview:
        """The same without a copy, for who keeps many images at once."""
        self._check(shard, offset, size)
        return self._file(shard).mapped[offset : offset + size]

    def whole(self, shard: int) -> memoryview:
        """All bytes of a shard, without a copy."""
        return self._file(shard).map()

    def name(self, shard: int) -> str:
        """The file name of a shard."""
        return self._shards[shard].name

    def close(self) -> None:
        """Let go of all files; a view that is still in use keeps its own."""
        with self._lock:
            self._files.clear()

    def _check(self, shard: int, offset: int, size: int) -> None:
        if offset < 0 or offset + size > self._shards[shard].size:
            raise Damaged(
                f"{self.name(shard)}: has no bytes {offset} to {offset + size}; its index is another pack's, pack again"
            )

    def _file(self, shard: int) -> "_File":
        with self._lock:
            file = self._files.get(shard)
            if file is None:
                file = self._files[shard] = self._open(self._shards[shard])
                if len(self._files) > self._max_open:
                    self._files.popitem(last=False)
            else:
                self._files.move_to_end(shard)
            return file

    def _open(self, shard: Shard) -> "_File":
        path = self._folder / shard.name
        try:
            file = _File(os.open(path, os.O_RDONLY))
        except FileNotFoundError:
            raise NotFound(f"{path}: this shard of the pack is not there; restore it, or pack again") from None
        # Checked first: to read a mapping past the end of a file would kill the process.
        if (size := os.fstat(file.descriptor).st_size) != shard.size:
            raise Damaged(f"{path}: {size} bytes, its pack says {shard.size}; restore it, or pack again")
        return file


class _Room(threading.local):
    """Memory of a thread's own, as large as the largest image that it read."""

    def __init__(self) -> None:
        self._all = memoryview(b"")

    def of(self, size: int) -> memoryview:
        if size > len(self._all):
            self._all = memoryview(bytearray(2 * size))
        return self._all[:size]


class _File:
    """A descriptor that is closed once nobody reads from it any more."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @cached_property
    def mapped(self) -> memoryview:
        """All its bytes."""
        return self.map()

    def map(self) -> memoryview:
        """All its bytes, mapped anew; a view keeps them when the file is closed."""
        return memoryview(mmap.mmap(self.descriptor, 0, access=mmap.ACCESS_READ))

    def __del__(self) -> None:
        os.close(self.descriptor)
