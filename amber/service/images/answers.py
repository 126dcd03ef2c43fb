"""ASGI middleware that answers requests for images: whole, a range of bytes, or a thumbnail.

The signed URL carries the location of the image, so the catalog is not opened.
"""

import re
import time
from typing import Final

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from amber.service.images.forgotten import Forgotten
from amber.service.images.pictures import SIZES, Picture, Pictures
from amber.service.images.signed_urls import Signer
from curation.errors import AmberError, BadInput

__all__ = ["Images"]

CORS: Final = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
"""Headers with which a page of any origin may show an image whose signed URL it has."""

PREFIX: Final = "/images/"
ALLOWED: Final = {**CORS, "Allow": "GET, HEAD"}


class Images:
    """Answers requests below /images/ and passes all others on. A signed URL is the only permission needed.

    It runs before FastAPI, whose routing would double the cost of an image.
    """

    path = "/images/{word}"
    """The route's name in the log and the metrics."""

    def __init__(self, app: ASGIApp, signer: Signer, pictures: Pictures, forgotten: Forgotten) -> None:
        self._app = app
        self._signer = signer
        self._pictures = pictures
        self._forgotten = forgotten

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request for an image, or pass it on."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        scope["route"] = self
        if scope["method"] in ("GET", "HEAD"):
            response = await self._answer(scope["path"].removeprefix(PREFIX), scope)
        else:
            text = f"{scope['method']}: images are read-only; use GET"
            response = Response(text, 405, ALLOWED, "text/plain")
        await response(scope, receive, send)

    async def _answer(self, word: str, scope: Scope) -> Response:
        try:
            grant = self._signer.read(word)
        except AmberError as error:
            return Response(str(error), 403, CORS, "text/plain")
        size = QueryParams(scope["query_string"]).get("size", "0")
        if size not in ("0", *map(str, SIZES)):
            return Response(f"size: must be one of {SIZES}; choose one", 422, CORS, "text/plain")
        if self._forgotten.holds(grant.location):
            self._pictures.discard(grant.location)
            return Response("image: was forgotten", 404, CORS, "text/plain")
        picture = self._pictures.kept(grant.location, int(size))
        if picture is None:
            try:
                picture = await self._pictures.fetch(grant.location, int(size))
            except BadInput as error:
                return Response(f"image: {error}", 404, CORS, "text/plain")
        return response_of(picture, Headers(scope=scope), until=grant.expires)


def response_of(picture: Picture, asked: Headers, *, until: int) -> Response:
    """The response with all of a picture, with a range of it, or that the browser's copy is current (304)."""
    headers = {
        **CORS, "ETag": picture.tag, "Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff",
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
    """First and last byte of a Range header; None when it is invalid. Several ranges get the whole image."""
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
