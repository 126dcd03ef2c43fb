"""Write one shard: read images straight into the write buffer, hash them there, and write in blocks.

Each image is hashed twice, for itself and for the shard's name, while it is in the processor's cache. Beyond that an
image costs some Python and three system calls. This module imports only the standard library and Amber's `locations`,
so worker processes (`samplers/pack/worker_processes.py`) start fast.
"""

import hashlib
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from curation.errors import BadInput, Damaged, NotFound
from curation.files.locations import read_into

__all__ = ["ShardEntry", "changed_image_error", "unreadable_image_error", "write_blocks"]

_BLOCK = 1 << 20  # bytes that are read, hashed and written together: they fit the processor's cache
_STEP = 64  # images between two progress reports


ShardEntry = tuple[str, str, str, int, bytes]
"""An image to write: key, location, sha256, size, and the bytes between it and the next image; cheap to pickle."""


def write_blocks(path: Path, head: bytes, entries: list[ShardEntry], count: Callable[[int], None]) -> str:
    """Write `head`, then each image with the bytes that follow it; the sha256 of the whole shard.

    `count` is called with the number of images written since its last call. NotFound for a missing image, Damaged for
    an image that is not the file that was ingested.
    """
    with path.open("wb", buffering=0) as file:
        buffer = _WriteBuffer(file, max(max(size, len(after)) for *_, size, after in entries) + 1)
        buffer.add(head)
        for done, (key, location, sha256, size, after) in enumerate(entries, 1):
            try:
                found = buffer.read(location, size)
            except BadInput as error:
                raise unreadable_image_error(key, location, error) from error
            if found != sha256:
                raise changed_image_error(key, location)
            buffer.add(after)
            if done % _STEP == 0:
                count(_STEP)
        buffer.flush()
    count(len(entries) % _STEP)
    return buffer.sha256.hexdigest()


class _WriteBuffer:
    """Collects bytes into blocks before writing them; one call adds at most `largest` bytes."""

    def __init__(self, file: FileIO, largest: int) -> None:
        self._file, self.sha256 = file, hashlib.sha256()
        self._buffer, self._at = memoryview(bytearray(_BLOCK + largest)), 0

    def read(self, location: str, size: int) -> str:
        """Append an image of `size` bytes; its sha256, or "" if the file has another size."""
        if self._at > _BLOCK:
            self.flush()
        free = self._buffer[self._at : self._at + size + 1]  # one byte more detects a file that has grown
        if read_into(location, free) != size:
            return ""
        self._at += size
        return hashlib.sha256(free[:size]).hexdigest()

    def add(self, data: bytes) -> None:
        """Append `data`."""
        if self._at > _BLOCK:
            self.flush()
        self._buffer[self._at : self._at + len(data)] = data
        self._at += len(data)

    def flush(self) -> None:
        """Hash and write the collected bytes."""
        data, self._at = self._buffer[: self._at], 0
        self.sha256.update(data)
        while data:
            data = data[self._file.write(data) :]


def changed_image_error(key: str, location: str) -> Damaged:
    """The error for an image that is not the file that was ingested."""
    return Damaged(f"{key}: {location} is not the file that was ingested; restore it, or ingest it under a new key")


def unreadable_image_error(key: str, location: str, why: BadInput) -> NotFound:
    """The error for an image that cannot be read."""
    return NotFound(f"{key}: {location} {why}, or exclude the sample")
