"""Files of a workspace, on this machine or below a URL: object storage (s3, gs, az) or a plain HTTP server.

What a network may do to a request is met here: it is sent again, a little later each time, and whatever cannot be had
in the end is one line. Credentials and endpoints come from the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...).
"""

import os
import random
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore.exceptions import BaseError, NotSupportedError, PermissionDeniedError, UnauthenticatedError
from obstore.store import from_url

from curation.errors import BadInput, Damaged, Failed, NotFound

__all__ = ["TRIES", "RemoteFiles"]

TRIES = 6
"""How often a request is sent before it is given up."""

_FIRST_WAIT = 0.1  # seconds before the second try; each further wait is twice as long, up to half of it by chance
_COALESCE = 4096  # bytes between two images that are read along: a json and two headers lie there
_OWN_RETRIES: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=60)}  # the library's: ours see the body too

Result = TypeVar("Result")


class RemoteFiles:
    """Objects below a URL. Safe to use from many threads."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        plain = "http://" in (self.url[:7], os.environ.get("AWS_ENDPOINT_URL", "")[:7])  # said so by who chose it
        options: Any = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10)}
        options |= {"allow_http": True} if plain else {}
        try:
            self._store: Any = from_url(self.url, client_options=options, retry_config=_OWN_RETRIES)
        except (BaseError, ValueError) as error:
            raise BadInput(f"{url}: no place that can be opened ({_line(error)}); correct it") from error

    def get(self, path: str) -> bytes:
        """A whole object; NotFound where there is none."""
        return self._tried(path, lambda: bytes(obstore.get(self._store, path).bytes()))

    def get_as(self, path: str, read: Callable[[bytes], Result]) -> Result:
        """What `read` makes of a whole object; asked for again where it raises Damaged, as bytes may come altered."""
        for left in range(TRIES - 1, -1, -1):
            try:
                return read(self.get(path))
            except Damaged:
                if not left:
                    raise
            time.sleep(_FIRST_WAIT)
        raise AssertionError

    def ranges(self, path: str, starts: Sequence[int], lengths: Sequence[int]) -> list[memoryview]:
        """Parts of an object, in their order; neighbours are read in one."""
        if not all(lengths):  # no server has a range of nothing
            some = [(start, length) for start, length in zip(starts, lengths, strict=True) if length]
            parts = iter(self.ranges(path, *zip(*some, strict=True)) if some else ())
            return [next(parts) if length else memoryview(b"") for length in lengths]

        def once() -> list[memoryview]:
            found = obstore.get_ranges(self._store, path, starts=starts, lengths=lengths, coalesce=_COALESCE)
            parts = [memoryview(part) for part in found]
            if any(len(part) != length for part, length in zip(parts, lengths, strict=True)):
                raise OSError("less came than was asked for")
            return parts

        return self._tried(path, once)

    def put(self, path: str, file: Path) -> None:
        """Write an object from a file; NotFound where the bucket is not there."""
        try:
            self._tried(path, lambda: obstore.put(self._store, path, file))
        except NotFound as error:
            raise NotFound(f"{self.url}: there is no such bucket to write into; make it, or correct the URL") from error

    def size(self, path: str) -> int | None:
        """Bytes of an object, None where there is none."""
        try:
            return int(self._tried(path, lambda: obstore.head(self._store, path))["size"])
        except NotFound:
            return None

    def _tried(self, path: str, work: Callable[[], Result]) -> Result:
        wait = _FIRST_WAIT
        for left in range(TRIES - 1, -1, -1):
            try:
                return work()
            except FileNotFoundError as error:
                raise NotFound(f"{self.url}/{path}: is not there; restore it, or pack again") from error
            except (PermissionDeniedError, UnauthenticatedError) as error:
                raise Failed(f"{self.url}/{path}: may not be read ({_line(error)}); check the rights to it") from error
            except NotSupportedError as error:
                told = f"{self.url}/{path}: its server gives no part of a file"
                raise Failed(f"{told}; serve it from one that answers ranges, or from object storage") from error
            except (BaseError, OSError) as error:
                if not left:
                    told = f"{self.url}/{path}: not reached in {TRIES} tries ({_line(error)})"
                    raise Failed(f"{told}; check the network, then go on from the last state") from error
            time.sleep(wait * random.uniform(0.5, 1))  # who failed together shall not come back together
            wait *= 2
        raise AssertionError


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
