"""One shard, written: images read straight into the place that they take in it, hashed there, and written in blocks.

What an image costs beside the two hashes and the copy is Python, which runs on one core at a time: so headers are made
for all images of a shard at once, and each image takes three calls of the system. While a block is filled, the one
before is hashed by two threads: each of its images, and all of it for the shard's name, before it is written.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

from curation.errors import AmberError, BadInput, Damaged, NotFound
from curation.locations import read_into
from samplers import tar

__all__ = ["changed", "extension", "notes", "unread", "write_shard"]

_BLOCK = 1 << 20  # bytes that are read, hashed and written while they lie in the processor's cache
_STEP = 64  # images between two looks at the count
_EXTENSIONS = {"JPEG": "jpg"}


def write_shard(path: Path, images: pa.Table, count: Callable[[int], None]) -> str:
    """Write a tar of images with the columns of `Work.images`; the sha256 of its bytes.

    `count` is called with how many more images are done. NotFound or Damaged for a file that is not there, or no longer
    the one that was ingested.
    """
    between, sizes = _between(images), images["size"].to_pylist()
    columns = (images[name].to_pylist() for name in ("key", "location", "sha256"))
    with path.open("wb", buffering=0) as file, _Blocks(file, max(sizes) + max(map(len, between)) + 1) as blocks:
        blocks.add(between[0])
        lines = zip(*columns, sizes, between[1:], strict=True)
        for done, (key, location, sha256, size, piece) in enumerate(lines, 1):
            blocks.fetch(_Image(key, location, sha256, size))
            blocks.add(piece)
            if done % _STEP == 0:
                count(_STEP)
    count(len(sizes) % _STEP)
    return blocks.sha256.hexdigest()


class _Image(NamedTuple):
    """An image to read, and what its bytes must be."""

    key: str
    location: str
    sha256: str
    size: int


class _Blocks:
    """What is put together in one of two blocks, while two threads check and write the other."""

    def __init__(self, file: FileIO, largest: int) -> None:
        self._file, self.sha256 = file, hashlib.sha256()
        self._blocks = [memoryview(bytearray(max(_BLOCK, 2 * largest))) for _ in range(2)]
        self._at = 0
        self._images: list[tuple[int, _Image]] = []
        self._threads = ThreadPoolExecutor(2, "amber-pack-write")
        self._running: list[Future[None]] = []

    def fetch(self, image: _Image) -> None:
        """Read an image behind what was kept; raises, for the first image that is not as it should be."""
        room = self._room(image.size + 1)  # one byte more shows that a file has grown
        try:
            if read_into(image.location, room) != image.size:
                raise changed(image.key, image.location)
        except AmberError as error:
            self._flush()
            self._wait()  # an image before may be wrong too
            if isinstance(error, BadInput):
                raise unread(image.key, image.location, error) from error
            raise
        self._images.append((self._at, image))
        self._at += image.size

    def add(self, data: bytes) -> None:
        """Put `data` behind what was kept."""
        self._room(len(data))[:] = data
        self._at += len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._threads:
            if kind is None:
                self._flush()
                self._wait()

    def _room(self, size: int) -> memoryview:
        if self._at + size > len(self._blocks[0]):
            self._flush()
        return self._blocks[0][self._at : self._at + size]

    def _flush(self) -> None:
        self._wait()
        data = self._blocks[0][: self._at]
        self._running = [
            self._threads.submit(_check, data, self._images), self._threads.submit(self._write, data)
        ]  # fmt: skip
        self._blocks.reverse()
        self._at, self._images = 0, []

    def _wait(self) -> None:
        for part in self._running:
            part.result()

    def _write(self, data: memoryview) -> None:
        self.sha256.update(data)
        while data:
            data = data[self._file.write(data) :]


def _check(data: memoryview, images: list[tuple[int, _Image]]) -> None:
    """Hash each image of a block where it lies."""
    for at, image in images:
        if hashlib.sha256(data[at : at + image.size]).hexdigest() != image.sha256:
            raise changed(image.key, image.location)


def changed(key: str, location: str) -> Damaged:
    """The error of an image that is another one by now."""
    return Damaged(f"{key}: {location} is not the file that was ingested; restore it, or ingest it under a new key")


def unread(key: str, location: str, why: BadInput) -> NotFound:
    """The error of an image that cannot be had."""
    return NotFound(f"{key}: {location} {why}, or exclude the sample")


def notes(images: pa.Table | pa.RecordBatch) -> list[bytes]:
    """What the json beside each image says, as `json.dumps` would write it; offsets are computed from its length."""
    columns = (images[name].to_pylist() for name in ("key", "width", "height", "sha256"))
    return [
        f'{{"key": {quoted(key)}, "width": {width}, "height": {height}, "sha256": "{sha256}"}}'.encode()
        for key, width, height, sha256 in zip(*columns, strict=True)
    ]


def extension(format: str) -> str:
    """Of a file in a shard: jpg, or the format's own name in lower case."""
    return _EXTENSIONS.get(format, format.lower())


def _between(images: pa.Table) -> list[bytes]:
    """n + 1 pieces: what stands before the first of n images, between each and the next, and behind the last."""
    stems = list(map(tar.member_name, images["key"].to_pylist()))
    names = [f"{stem}.{extension(kind)}" for stem, kind in zip(stems, images["format"].to_pylist(), strict=True)]
    sizes, texts = np.asarray(images["size"], np.int64), notes(images)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    before = memoryview(tar.headers(names, sizes).tobytes())
    behind = memoryview(tar.headers([f"{stem}.json" for stem in stems], lengths).tobytes())
    pieces = [bytes(before[: tar.BLOCK])]
    for number, (size, text) in enumerate(zip(sizes.tolist(), texts, strict=True)):
        at = number * tar.BLOCK
        following = before[at + tar.BLOCK : at + 2 * tar.BLOCK] or tar.END
        note = behind[at : at + tar.BLOCK]
        pieces.append(b"".join((tar.padding(size), note, text, tar.padding(len(text)), following)))
    return pieces
