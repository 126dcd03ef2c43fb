"""Images and thumbnails in memory: read once, decoded at most two at a time, dropped when their file changes."""

import asyncio
import hashlib
import io
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread
from PIL import Image, ImageOps

from curation.errors import BadInput
from curation.files.locations import is_url, read_bytes
from curation.images.decoding import MAX_PIXELS

__all__ = ["LARGEST", "SIZES", "Picture", "Pictures"]

SIZES: Final = (64, 128, 256, 512)
"""Longest sides of thumbnails, in pixels."""

LARGEST: Final = 64 << 20
"""A larger image, in bytes, is not served."""

CACHED: Final = 256 << 20
"""Bytes of pictures kept in memory."""

DECODES: Final = 2
"""Images decoded at the same time: one of `MAX_PIXELS` takes about 0.4 GB."""

READS: Final = 8
"""Images read or waiting to be decoded at the same time, each up to `LARGEST` bytes."""

BUCKETS: Final = ("s3", "s3a", "gs", "gcs", "az", "abfs")
"""Schemes of object storage. No other URL is fetched: a location must not make the service call its neighbours."""

KINDS: Final = {
    b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"GIF8": "image/gif", b"BM": "image/bmp",
    b"II*\0": "image/tiff", b"MM\0*": "image/tiff",
}  # fmt: skip

SHRINKABLE: Final = ("RGB", "L", "RGBA", "CMYK", "YCbCr")
"""Modes that Pillow resizes without a conversion, which would need a second copy of the whole image."""

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Picture:
    """The bytes of an image or thumbnail, its media type, its ETag, and the stamp of the file that it was read from."""

    data: bytes
    kind: str
    tag: str
    stamp: Stamp | None = None


class Pictures:
    """A cache of pictures by location and size. It drops the least recently used beyond `room` bytes."""

    def __init__(self, room: int = CACHED) -> None:
        self._room = room
        self._held = 0
        self._kept: OrderedDict[tuple[str, int], Picture] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[tuple[str, int], asyncio.Task[Picture]] = {}
        self._reads, self._decodes = CapacityLimiter(READS), CapacityLimiter(DECODES)
        self.decoded = 0

    def kept(self, location: str, size: int) -> Picture | None:
        """The picture, if it is in memory and its file is unchanged; a file that changed or is gone drops it."""
        with self._lock:
            found = self._kept.get((location, size))
            if found is None:
                return None
            if found.stamp != _stamp(location):
                self._drop((location, size))
                return None
            self._kept.move_to_end((location, size))
            return found

    def discard(self, location: str) -> None:
        """Drop an image and its thumbnails."""
        with self._lock:
            for size in (0, *SIZES):
                self._drop((location, size))

    async def fetch(self, location: str, size: int) -> Picture:
        """The picture, read and shrunk to `size` pixels unless that is 0. Equal requests share one read and decode.

        BadInput when it cannot be read or is not an image.
        """
        key = (location, size)
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.create_task(self._load(location, size))
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        return await asyncio.shield(task)

    def load(self, location: str, size: int) -> Picture:
        """As `fetch`, in this thread."""
        picture = _read(location)
        return self._keep(location, size, self._shrink(picture, size) if size else picture)

    async def _load(self, location: str, size: int) -> Picture:
        async with self._reads:
            picture = await to_thread.run_sync(_read, location)
            if size:
                picture = await to_thread.run_sync(self._shrink, picture, size, limiter=self._decodes)
        return self._keep(location, size, picture)

    def _shrink(self, picture: Picture, size: int) -> Picture:
        with self._lock:
            self.decoded += 1
        return _thumbnail(picture, size)

    def _keep(self, location: str, size: int, picture: Picture) -> Picture:
        with self._lock:
            self._drop((location, size))
            self._kept[location, size] = picture
            self._held += len(picture.data)
            while self._held > self._room:
                self._drop(next(iter(self._kept)))
        return picture

    def _drop(self, key: tuple[str, int]) -> None:
        gone = self._kept.pop(key, None)
        self._held -= len(gone.data) if gone else 0


def _read(location: str) -> Picture:
    if is_url(location) and not location.startswith("tar://") and urlsplit(location).scheme not in BUCKETS:
        raise BadInput("is at an address that this service does not fetch; let the browser fetch it")
    stamp = _stamp(location)
    return _picture(read_bytes(location, LARGEST + 1), stamp)


def _stamp(location: str) -> Stamp | None:
    """What changes when a local file or tar changes; None for a URL or a missing file."""
    path = location.partition("::")[2] if location.startswith("tar://") else location
    if is_url(path):
        return None
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _picture(data: bytes, stamp: Stamp | None) -> Picture:
    kind = next((kind for start, kind in KINDS.items() if data.startswith(start)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    if not kind or len(data) > LARGEST:
        raise BadInput(f"is not an image of at most {LARGEST >> 20} MB that browsers show; convert it")
    return Picture(data, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"', stamp)


def _thumbnail(picture: Picture, size: int) -> Picture:
    try:
        with Image.open(io.BytesIO(picture.data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadInput(f"{image.width} x {image.height} pixels, at most {MAX_PIXELS} are decoded; shrink it")
            small = _shrunk(image, size)
    except BadInput:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(f"has more than {MAX_PIXELS} pixels ({error}); shrink it") from error
    except Exception as error:  # decoders raise what they like
        raise BadInput(f"cannot be decoded ({type(error).__name__}); fix it") from error
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return _picture(out.getvalue(), picture.stamp)


def _shrunk(image: Image.Image, size: int) -> Image.Image:
    image.draft("RGB", (size, size))
    small = image if image.mode in SHRINKABLE else image.convert("RGB")
    small.thumbnail((size, size))
    return ImageOps.exif_transpose(small).convert("RGB")
