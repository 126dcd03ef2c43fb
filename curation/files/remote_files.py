"""Files below a URL: object storage (s3, gs, az) or a plain HTTP server.

Packs and images are both read here. Failed requests are retried with growing delays; the final error is one line.
Credentials and endpoints come from the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...).
"""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore.exceptions import BaseError, NotSupportedError, PermissionDeniedError, UnauthenticatedError
from obstore.store import from_url

from curation.errors import BadInput, Damaged, Failed, NotFound
from curation.files.retries import Backoff, retried

__all__ = ["BACKOFF", "TRIES", "RemoteFiles"]

TRIES = 6
"""The number of attempts of a request."""

BACKOFF = Backoff(first=0.1, jitter=0.5, tries=TRIES)
"""Delays of 0.1 s to 1.6 s between attempts, each with jitter of up to half."""

_COALESCE = 4096  # gaps of up to so many bytes are read too: between two images are a json and two headers
_OWN_RETRIES: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=60)}  # off: our retries cover the body too

Result = TypeVar("Result")


class RemoteFiles:
    """Objects below a URL. Safe to use from many threads. Failed requests are sent again after `backoff`."""

    def __init__(self, url: str, *, backoff: Backoff | None = None) -> None:
        self.url = url.rstrip("/")
        self.backoff = backoff or BACKOFF
        plain = "http://" in (self.url[:7], os.environ.get("AWS_ENDPOINT_URL", "")[:7])  # the user chose plain HTTP
        options: Any = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10)}
        options |= {"allow_http": True} if plain else {}
        try:
            self._store: Any = from_url(self.url, client_options=options, retry_config=_OWN_RETRIES)
        except (BaseError, ValueError) as error:
            raise BadInput(f"{url}: not a URL that can be opened ({_line(error)}); correct it") from error

    def get(self, path: str, most: int | None = None) -> bytes:
        """The bytes of an object, at most the first `most`; NotFound if there is none."""
        return self._tried(path, lambda: self._first(path, most))

    def get_as(self, path: str, read: Callable[[bytes], Result]) -> Result:
        """`read` of the bytes of an object, fetched again while `read` raises Damaged: a network may alter bytes."""
        return retried(lambda: read(self.get(path)), Damaged, self.backoff)

    def ranges(self, path: str, starts: Sequence[int], lengths: Sequence[int]) -> list[memoryview]:
        """The byte ranges of an object, in the given order; adjacent ranges are read in one request."""
        if not all(lengths):  # servers refuse empty ranges
            some = [(start, length) for start, length in zip(starts, lengths, strict=True) if length]
            parts = iter(self.ranges(path, *zip(*some, strict=True)) if some else ())
            return [next(parts) if length else memoryview(b"") for length in lengths]

        def once() -> list[memoryview]:
            found = obstore.get_ranges(self._store, path, starts=starts, lengths=lengths, coalesce=_COALESCE)
            parts = [memoryview(part) for part in found]
            if any(len(part) != length for part, length in zip(parts, lengths, strict=True)):
                raise OSError("the response is shorter than the requested range")
            return parts

        return self._tried(path, once)

    def put(self, path: str, file: Path) -> None:
        """Write an object from a file; NotFound if the bucket is missing."""
        try:
            self._tried(path, lambda: obstore.put(self._store, path, file))
        except NotFound as error:
            raise NotFound(f"{self.url}: there is no such bucket; make it, or correct the URL") from error

    def size(self, path: str) -> int | None:
        """The size of an object in bytes, None if there is none."""
        try:
            return int(self._tried(path, lambda: obstore.head(self._store, path))["size"])
        except NotFound:
            return None

    def _first(self, path: str, most: int | None) -> bytes:
        options: Any = None if most is None else {"range": (0, most)}
        try:
            return bytes(obstore.get(self._store, path, options=options).bytes())
        except BaseError:
            if most is None or obstore.head(self._store, path)["size"]:
                raise
            return b""  # servers refuse a range of an empty object

    def _tried(self, path: str, work: Callable[[], Result]) -> Result:
        try:
            return retried(partial(self._once, path, work), (BaseError, OSError), self.backoff)
        except (BaseError, OSError) as error:
            problem = f"{self.url}/{path}: not reached in {self.backoff.tries} tries ({_line(error)})"
            raise Failed(f"{problem}; check the network, then resume from the last state") from error

    def _once(self, path: str, work: Callable[[], Result]) -> Result:
        """What `work` returns; NotFound or Failed for what another try would not change."""
        try:
            return work()
        except FileNotFoundError as error:
            raise NotFound(f"{self.url}/{path}: is missing; restore it, or pack again") from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise Failed(f"{self.url}/{path}: access denied ({_line(error)}); check the permissions") from error
        except NotSupportedError as error:
            problem = f"{self.url}/{path}: the server does not support range requests"
            raise Failed(f"{problem}; use a server that does, or object storage") from error
        except ValueError as error:  # as for an empty segment of the path
            raise BadInput(f"{self.url}/{path}: {_line(error)}; correct the URL") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).partition("Debug source:")[0].split())[:200] or type(error).__name__
