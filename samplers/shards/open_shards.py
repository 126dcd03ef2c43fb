"""Shards as they lie on a disk: opened on first use, a bounded number at a time.

An image is copied out of the page cache into memory that its thread uses again, which stays in the processor's own
cache: to map its pages, which are new nearly always, takes the kernel longer, and so does new memory.
"""

import hashlib
import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from curation.arrays import Int32s, Ints
from curation.errors import Damaged, Failed, NotFound
from samplers.shards.row_index import RowIndex

__all__ = ["MAX_OPEN", "LocalShards", "ReadOrder", "Shard", "ShardSource", "ThreadBuffer", "VerifiedShards"]

MAX_OPEN = 128
"""Shards that are open at a time."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar of a pack, `size` bytes long, with `images` of the pack's images; `name` is its sha256 and ".tar"."""

    name: str
    size: int
    images: int


ReadOrder = Callable[[], tuple[Int32s, Ints]]
"""Shards and offsets [N] of the images that will be read, in their order; asked for once, when reading begins."""


class ShardSource(Protocol):
    """Bytes of a pack's shards, by number, for many threads at a time."""

    def set_read_order(self, order: ReadOrder) -> None: ...
    def read(self, shard: int, offset: int, size: int) -> memoryview: ...
    def read_out_of_order(self, shard: int, offset: int, size: int) -> memoryview: ...
    def read_shard(self, shard: int) -> memoryview: ...
    def name(self, shard: int) -> str: ...
    def close(self, wait: bool = True) -> None: ...


class LocalShards:
    """Bytes of a pack's shards, by number. Safe to use from many threads."""

    def __init__(self, folder: Path, shards: Sequence[Shard], max_open: int = MAX_OPEN) -> None:
        self._folder, self._shards, self._max_open = folder, shards, max_open
        self._files: OrderedDict[int, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()
        self._room = ThreadBuffer()

    def read(self, shard: int, offset: int, size: int) -> memoryview:
        """`size` bytes of a shard, until the same thread reads again; Damaged if the shard does not reach that far."""
        self._check(shard, offset, size)
        file = self._file(shard)  # held, so that nobody closes it meanwhile
        room = self._room.of(size)
        if os.preadv(file.descriptor, [room], offset) != size:
            raise Damaged(f"{self.path(shard)}: was cut off meanwhile; restore it, or pack again")
        return room

    def set_read_order(self, order: ReadOrder) -> None:
        """Files on this machine may be read in any order."""

    def read_out_of_order(self, shard: int, offset: int, size: int) -> memoryview:
        """The same without a copy, for who keeps many images at once."""
        self._check(shard, offset, size)
        return self._file(shard).mapped[offset : offset + size]

    def read_shard(self, shard: int) -> memoryview:
        """All bytes of a shard, without a copy."""
        return self._file(shard).map()

    def name(self, shard: int) -> str:
        """The file name of a shard."""
        return self._shards[shard].name

    def path(self, shard: int) -> Path:
        """Where a shard lies."""
        return self._folder / self.name(shard)

    def close(self, wait: bool = True) -> None:
        """Let go of all files; a view that is still in use keeps its own. Without `wait`, in which the collector of
        garbage closes whatever the thread holds just then, they go with this object."""
        if wait:
            with self._lock:
                self._files.clear()

    def _check(self, shard: int, offset: int, size: int) -> None:
        if offset < 0 or offset + size > self._shards[shard].size:
            raise Damaged(
                f"{self.name(shard)}: has no bytes {offset} to {offset + size}; its index is another pack's, pack again"
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
            raise NotFound(f"{path}: this shard of the pack is not there; restore it, or pack again") from None
        except OSError as error:
            told = f"{path}: not opened ({error.strerror})"
            raise Failed(f"{told}; mend its rights, or raise the limit (ulimit -n)") from error
        # Checked first: to read a mapping past the end of a file would kill the process.
        if (size := os.fstat(file.descriptor).st_size) != shard.size:
            raise Damaged(f"{path}: {size} bytes, its pack says {shard.size}; restore it, or pack again")
        return file


class VerifiedShards:
    """Shards whose images are hashed when they are read; Damaged, for who has other bytes than were packed."""

    def __init__(self, shards: LocalShards, rows: RowIndex, hashes: pa.StringArray) -> None:
        self._shards, self._rows, self._hashes = shards, rows, hashes
        self.set_read_order, self.read_shard, self.name, self.close = (
            shards.set_read_order,
            shards.read_shard,
            shards.name,
            shards.close,
        )

    def read(self, shard: int, offset: int, size: int) -> memoryview:
        """As `Shards.read`."""
        return self._sound(shard, offset, self._shards.read(shard, offset, size))

    def read_out_of_order(self, shard: int, offset: int, size: int) -> memoryview:
        """As `Shards.read_out_of_order`."""
        return self._sound(shard, offset, self._shards.read_out_of_order(shard, offset, size))

    def _sound(self, shard: int, offset: int, data: memoryview) -> memoryview:
        if hashlib.sha256(data).hexdigest() != self._hashes[self._rows.at(shard, offset)].as_py():
            told = f"{self._shards.path(shard)}: the image's bytes at {offset} have changed"
            raise Damaged(f"{told}; delete the shard, then pack again")
        return data


class ThreadBuffer(threading.local):
    """Memory of each thread's own, as large as the largest image that it read."""

    def __init__(self) -> None:
        self._all = memoryview(b"")

    def of(self, size: int) -> memoryview:
        """`size` bytes, the same ones each time."""
        if size > len(self._all):
            self._all = memoryview(bytearray(2 * size))
        return self._all[:size]


class _OpenFile:
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
