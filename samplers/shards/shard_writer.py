"""One shard's bytes: images read straight into the place that they take in it, hashed there, and written in blocks.

An image is hashed, for itself and for the shard's name, while it lies in the processor's cache. What it costs beside
that is Python and three calls of the system. Nothing is imported here but Python's own library and Amber's `locations`,
so that a process that does this alone (`samplers/pack/worker_processes.py`) starts at once.
"""

import hashlib
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from curation.errors import BadInput, Damaged, NotFound
from curation.files.locations import read_into

__all__ = ["ShardEntry", "changed_image_error", "unreadable_image_error", "write_blocks"]

_BLOCK = 1 << 20  # bytes that are read, hashed and written while they lie in the processor's cache
_STEP = 64  # images between two looks at the count


ShardEntry = tuple[str, str, str, int, bytes]
"""An image to write: key, location, sha256, size, and the bytes between it and the next one; plain, to be pickled."""


def write_blocks(path: Path, head: bytes, lines: list[ShardEntry], count: Callable[[int], None]) -> str:
    """Write `head` and then all images with what is behind each; the sha256 of it all.

    `count` is called with how many more images are done. NotFound or Damaged for a file that is not there, or no longer
    the one that was ingested.
    """
    with path.open("wb", buffering=0) as file:
        block = _WriteBuffer(file, max(max(size, len(behind)) for *_, size, behind in lines) + 1)
        block.add(head)
        for done, (key, location, sha256, size, behind) in enumerate(lines, 1):
            try:
                found = block.read(location, size)
            except BadInput as error:
                raise unreadable_image_error(key, location, error) from error
            if found != sha256:
                raise changed_image_error(key, location)
            block.add(behind)
            if done % _STEP == 0:
                count(_STEP)
        block.flush()
    count(len(lines) % _STEP)
    return block.sha256.hexdigest()


class _WriteBuffer:
    """What is put together before it is written; `largest` bytes are added at a time at the most."""

    def __init__(self, file: FileIO, largest: int) -> None:
        self._file, self.sha256 = file, hashlib.sha256()
        self._room, self._at = memoryview(bytearray(_BLOCK + largest)), 0

    def read(self, location: str, size: int) -> str:
        """Read an image of so many bytes behind what was kept; its sha256, or nothing when it is of another size."""
        if self._at > _BLOCK:
            self.flush()
        room = self._room[self._at : self._at + size + 1]  # one byte more shows that a file has grown
        if read_into(location, room) != size:
            return ""
        self._at += size
        return hashlib.sha256(room[:size]).hexdigest()

    def add(self, data: bytes) -> None:
        """Put `data` behind what was kept."""
        if self._at > _BLOCK:
            self.flush()
        self._room[self._at : self._at + len(data)] = data
        self._at += len(data)

    def flush(self) -> None:
        """Write what was kept."""
        data, self._at = self._room[: self._at], 0
        self.sha256.update(data)
        while data:
            data = data[self._file.write(data) :]


def changed_image_error(key: str, location: str) -> Damaged:
    """The error of an image that is another one by now."""
    return Damaged(f"{key}: {location} is not the file that was ingested; restore it, or ingest it under a new key")


def unreadable_image_error(key: str, location: str, why: BadInput) -> NotFound:
    """The error of an image that cannot be had."""
    return NotFound(f"{key}: {location} {why}, or exclude the sample")
