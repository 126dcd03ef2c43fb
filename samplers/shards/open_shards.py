"""Shards on a local disk: opened on first use, a bounded number at a time.

An image is copied from the page cache into a buffer that its thread reuses, which stays in the processor's cache. This
is faster than mapping the image's pages, which are nearly always new, and faster than new memory.
"""

import hashlib
import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from curation.arrays import Int32s, Ints
from curation.errors import Damaged, Failed, NotFound
from curation.files.locks import in_use
from samplers.shards.row_index import RowIndex

__all__ = ["MAX_OPEN", "LocalShards", "ReadOrder", "Shard", "ShardSource", "ThreadBuffer", "VerifiedShards"]

MAX_OPEN = 128
"""The largest number of shards open at a time."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar of a pack: its file `name` (sha256 and ".tar"), its `size` in bytes, and its number of `images`."""

    name: str
    size: int
    images: int


ReadOrder = Callable[[], tuple[Int32s, Ints]]
"""Returns shards and byte offsets [N] of the images to read, in the order of the reads; called once, at the start."""


class ShardSource(Protocol):
    """Reads bytes of a pack's shards by index; safe to use from many threads."""

    def set_read_order(self, order: ReadOrder) -> None: ...
    def read(self, shard: int, offset: int, size: int) -> memoryview: ...
    def read_out_of_order(self, shard: int, offset: int, size: int) -> memoryview: ...
    def read_shard(self, shard: int) -> memoryview: ...
    def name(self, shard: int) -> str: ...
    def close(self, wait: bool = True) -> None: ...


class LocalShards:
    """Reads bytes of a pack's local shards by index. Safe to use from many threads. With `home`, nothing is pruned from
    that workspace until this is closed."""

    def __init__(
        self, folder: Path, shards: Sequence[Shard], max_open: int = MAX_OPEN, *, home: Path | None = None
    ) -> None:
        self._folder, self._shards, self._max_open = folder, shards, max_open
        self._files: OrderedDict[int, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()
        self._buffer = ThreadBuffer()
        self._use = ExitStack()
        if home is not None:
            self._use.enter_context(in_use(home))

    def read(self, shard: int, offset: int, size: int) -> memoryview:
        """`size` bytes of a shard, valid until the same thread reads again; Damaged if the shard is shorter."""
        self._check(shard, offset, size)
        file = self._file(shard)  # this reference keeps it open during the read
        buffer = self._buffer.view(size)
        if os.preadv(file.descriptor, [buffer], offset) != size:
            raise Damaged(f"{self.path(shard)}: was truncated during the read; restore it, or pack again")
        return buffer

    def set_read_order(self, order: ReadOrder) -> None:
        """No-op: local files may be read in any order."""

    def read_out_of_order(self, shard: int, offset: int, size: int) -> memoryview:
        """As `read`, without a copy, for callers that keep many images at once or read out of the set order."""
        self._check(shard, offset, size)
        return self._file(shard).mapped[offset : offset + size]

    def read_shard(self, shard: int) -> memoryview:
        """All bytes of a shard, memory-mapped."""
        return self._file(shard).map()

    def name(self, shard: int) -> str:
        """The file name of a shard."""
        return self._shards[shard].name

    def path(self, shard: int) -> Path:
        """The path of a shard."""
        return self._folder / self.name(shard)

    def close(self, wait: bool = True) -> None:
        """Close all files; a view that is still in use keeps its file open. Without `wait` (the garbage collector may
        call it while this thread holds the lock) the files close together with this object."""
        self._use.close()
        if wait:
            with self._lock:
                self._files.clear()

    def _check(self, shard: int, offset: int, size: int) -> None:
        if offset < 0 or offset + size > self._shards[shard].size:
            raise Damaged(
                f"{self.name(shard)}: has no bytes {offset} to {offset + size}; the index is another pack's, pack again"
            )

    def _file(self, shard: int) -> "_OpenFile":
        with self._lock:
            file = self._files.get(shard)
            if file is None:
                file = self._files[shard] = self._open(self._shards[shard])
                if len(self._files) > self._max_open:
                    self._files.popitem(last=False)
            else:
                self._files.move_to_end(shard)
            return file

    def _open(self, shard: Shard) -> "_OpenFile":
        path = self._folder / shard.name
        try:
            file = _OpenFile(os.open(path, os.O_RDONLY))
        except FileNotFoundError:
            raise NotFound(f"{path}: this shard of the pack is missing; restore it, or pack again") from None
        except OSError as error:
            problem = f"{path}: not opened ({error.strerror})"
            raise Failed(f"{problem}; fix its permissions, or raise the limit (ulimit -n)") from error
        # Check the size first: reading a mapping past the end of its file would kill the process.
        if (size := os.fstat(file.descriptor).st_size) != shard.size:
            raise Damaged(f"{path}: {size} bytes, must be {shard.size}; restore it, or pack again")
        return file


class VerifiedShards:
    """Local shards that hash each image they read; Damaged if its bytes are not those that were packed."""

    def __init__(self, shards: LocalShards, rows: RowIndex, hashes: pa.StringArray) -> None:
        self._shards, self._rows, self._hashes = shards, rows, hashes
        self.set_read_order, self.read_shard, self.name, self.close = (
            shards.set_read_order,
            shards.read_shard,
            shards.name,
            shards.close,
        )

    def read(self, shard: int, offset: int, size: int) -> memoryview:
        """As `LocalShards.read`."""
        return self._verified(shard, offset, self._shards.read(shard, offset, size))

    def read_out_of_order(self, shard: int, offset: int, size: int) -> memoryview:
        """As `LocalShards.read_out_of_order`."""
        return self._verified(shard, offset, self._shards.read_out_of_order(shard, offset, size))

    def _verified(self, shard: int, offset: int, data: memoryview) -> memoryview:
        if hashlib.sha256(data).hexdigest() != self._hashes[self._rows.row(shard, offset)].as_py():
            problem = f"{self._shards.path(shard)}: the image's bytes at {offset} have changed"
            raise Damaged(f"{problem}; delete the shard, then pack again")
        return data


class ThreadBuffer(threading.local):
    """A reusable buffer per thread; it grows to twice the largest image of the thread."""

    def __init__(self) -> None:
        self._all = memoryview(b"")

    def view(self, size: int) -> memoryview:
        """The first `size` bytes of this thread's buffer."""
        if size > len(self._all):
            self._all = memoryview(bytearray(2 * size))
        return self._all[:size]


class _OpenFile:
    """A file descriptor that closes with the last reference to this object."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @cached_property
    def mapped(self) -> memoryview:
        """All bytes of the file, mapped once."""
        return self.map()

    def map(self) -> memoryview:
        """All bytes of the file in a new mapping, which outlives the descriptor."""
        return memoryview(mmap.mmap(self.descriptor, 0, access=mmap.ACCESS_READ))

    def __del__(self) -> None:
        os.close(self.descriptor)
