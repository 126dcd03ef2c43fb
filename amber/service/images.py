"""Images over HTTP: whole, a range of bytes, or a thumbnail. The signed URL says which; the catalog is not asked."""

import hashlib
import io
import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from anyio import to_thread
from PIL import Image, ImageOps
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from amber.service.signed_urls import Signer
from curation.errors import BadInput
from curation.files.locations import is_url, read_bytes

__all__ = ["SIZES", "Images", "Pictures"]

SIZES: Final = (64, 128, 256, 512)
"""Longest sides of thumbnails, in pixels."""

LARGEST: Final = 64 << 20
"""Bytes of an image that is served."""

CACHED: Final = 256 << 20
"""Bytes of pictures that are kept in memory."""

BUCKETS: Final = ("s3", "gs", "az", "abfs")
"""Schemes of object storage. Others are not fetched: a location must not make the service call on its neighbours."""

KINDS: Final = {
    b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"GIF8": "image/gif", b"BM": "image/bmp",
    b"II*\0": "image/tiff", b"MM\0*": "image/tiff",
}  # fmt: skip

OPEN: Final = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
"""Whoever holds a signed URL may show the image on a page of any origin."""

PREFIX: Final = "/images/"
ALLOWED: Final = {**OPEN, "Allow": "GET, HEAD"}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image, or a thumbnail of one."""

    data: bytes
    kind: str
    tag: str


class Pictures:
    """Pictures by location and size, the least used of which are let go."""

    def __init__(self, room: int = CACHED) -> None:
        self._room = room
        self._held = 0
        self._kept: OrderedDict[tuple[str, int], Picture] = OrderedDict()
        self._lock = threading.Lock()

    def kept(self, location: str, size: int) -> Picture | None:
        """The picture, if it is there."""
        with self._lock:
            found = self._kept.get((location, size))
            if found is not None:
                self._kept.move_to_end((location, size))
            return found

    def load(self, location: str, size: int) -> Picture:
        """The picture; read, and shrunk to `size` unless that is 0. BadInput when it cannot be had."""
        _check(location)
        picture = _picture(read_bytes(location))
        if size:
            picture = _shrunk(picture, size)
        with self._lock:
            before = self._kept.pop((location, size), None)
            self._kept[location, size] = picture
            self._held += len(picture.data) - (len(before.data) if before else 0)
            while self._held > self._room:
                _, gone = self._kept.popitem(last=False)
                self._held -= len(gone.data)
        return picture


class Images:
    """ASGI: the route of signed images, before the application: what FastAPI does for a route costs as much again."""

    path: Final = "/images/{word}"

    def __init__(self, app: ASGIApp, signer: Signer, pictures: Pictures) -> None:
        self._app = app
        self._signer = signer
        self._pictures = pictures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, if it is for an image."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        scope["route"] = self  # by which the log and the figures name it
        if scope["method"] in ("GET", "HEAD"):
            response = await self._answer(scope["path"].removeprefix(PREFIX), scope)
        else:
            response = Response(f"{scope['method']}: images are only read; GET them", 405, ALLOWED, "text/plain")
        await response(scope, receive, send)

    async def _answer(self, word: str, scope: Scope) -> Response:
        try:
            grant = self._signer.read(word)
        except BadInput as error:
            return Response(str(error), 403, OPEN, "text/plain")
        asked = QueryParams(scope["query_string"]).get("size", "0")
        if asked not in ("0", *map(str, SIZES)):
            return Response(f"size: must be one of {SIZES}; choose one", 422, OPEN, "text/plain")
        picture = self._pictures.kept(grant.location, int(asked))
        if picture is None:
            try:
                picture = await to_thread.run_sync(self._pictures.load, grant.location, int(asked))
            except BadInput as error:
                return Response(f"image: {error}", 404, OPEN, "text/plain")
        return answer(picture, Headers(scope=scope), until=grant.expires)


def answer(picture: Picture, asked: Headers, *, until: int) -> Response:
    """The response to a request for a picture: all of it, a range, or that the browser has it."""
    headers = {
        **OPEN, "ETag": picture.tag, "Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff",
        "Cache-Control": f"private, max-age={max(0, until - int(time.time()))}",
    }  # fmt: skip
    if asked.get("if-none-match") == picture.tag:
        return Response(status_code=304, headers=headers)
    part, total = asked.get("range"), len(picture.data)
    if part is None or asked.get("if-range", picture.tag) != picture.tag:
        return Response(picture.data, 200, headers, picture.kind)
    span = _span(part, total)
    if span is None:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{total}"})
    first, last = span
    headers["Content-Range"] = f"bytes {first}-{last}/{total}"
    return Response(picture.data[first : last + 1], 206, headers, picture.kind)


def _span(asked: str, total: int) -> tuple[int, int] | None:
    """First and last byte of a range; None when there is no such one. Of several the whole is a fair answer."""
    if "," in asked:
        return 0, total - 1
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", asked.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        first, last = max(0, total - int(match[2])), total - 1
        return (first, last) if int(match[2]) else None
    first, last = int(match[1]), min(int(match[2] or total - 1), total - 1)
    return (first, last) if first <= last else None


def _check(location: str) -> None:
    if is_url(location) and not location.startswith("tar://") and urlsplit(location).scheme not in BUCKETS:
        raise BadInput("lies at an address that this service does not call on; let the browser fetch it")


def _picture(data: bytes) -> Picture:
    kind = next((kind for start, kind in KINDS.items() if data.startswith(start)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    if not kind or len(data) > LARGEST:
        raise BadInput(f"is no image of at most {LARGEST >> 20} MB that browsers show; convert it")
    return Picture(data, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"')


def _shrunk(picture: Picture, size: int) -> Picture:
    try:
        with Image.open(io.BytesIO(picture.data)) as image:
            image.draft("RGB", (size, size))
            small = ImageOps.exif_transpose(image).convert("RGB")
            small.thumbnail((size, size))
    except Exception as error:  # decoders raise what they like
        raise BadInput(f"cannot be decoded ({type(error).__name__}); mend it") from error
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return _picture(out.getvalue())
