"""Image locations, as the catalog stores them, and the bytes behind them.

A location is the path of a file, a URL, or a member of a plain tar, `tar://MEMBER::PATH` (as fsspec writes it). Tar
members are read through an index of offsets that is built once for each tar. Objects (s3, gs, az and their like) are
read as packs are, by `remote_files`. HTTP is read by the standard library: obstore takes the path of a URL alone, and
images may be at signed URLs, whose query must be sent.
"""

import os
import stat
import tarfile
import urllib.request
from collections.abc import Mapping
from functools import lru_cache
from http.client import HTTPException
from typing import TYPE_CHECKING, NamedTuple

from curation.errors import AmberError, BadInput

if TYPE_CHECKING:
    from curation.files.remote_files import RemoteFiles

__all__ = ["MAX_BYTES", "Span", "is_url", "member", "read_bytes", "read_into", "spans"]

MAX_BYTES = 1 << 30
"""Larger images are refused."""

_HTTP_TIMEOUT = 60.0  # seconds of silence
_CHOICES = ("AWS_", "AZURE_", "GOOGLE_")  # environment variables that object storage is reached by
_TARS = 256  # tar indices kept in memory: images of a data set follow each other in one tar


class Span(NamedTuple):
    """The bytes of a member in its tar, both in bytes."""

    offset: int
    size: int


def is_url(location: str) -> bool:
    """Whether `location` is not a path in this machine's file system.

    >>> is_url("s3://bucket/a.jpg"), is_url("/data/a.jpg")
    (True, False)
    """
    return "://" in location


def member(name: str, tar: str) -> str:
    """The location of the member `name` of the tar at `tar`.

    >>> member("a.jpg", "/data/images.tar")
    'tar://a.jpg::/data/images.tar'
    """
    return f"tar://{name}::{tar}"


def read_bytes(location: str, count: int | None = None) -> bytes:
    """The bytes of an image, or its first `count`; BadInput gives the reason, without the location."""
    if not is_url(location):
        return _read_file(location, count)
    if location.startswith("tar://"):
        return _read_member(location, count)
    return _read_url(location, count)


def read_into(location: str, room: memoryview) -> int:
    """Read an image into `room` and return its size in bytes, at most `len(room)`. Raises as `read_bytes` does.

    `room` is one byte longer than the expected size, so that a longer file is noticed.
    """
    if is_url(location):
        data = read_bytes(location)
        room[: len(data)] = data[: len(room)]
        return min(len(data), len(room))
    try:
        descriptor = os.open(location, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # do not wait for a pipe
        try:
            size = count = os.readv(descriptor, [room])
            while count and size < len(room) - 1:
                size += (count := os.readv(descriptor, [room[size:]]))
            return size
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadInput(f"cannot be read ({error.strerror}); check its path and its permissions") from error
    except ValueError as error:  # a zero byte in the path
        raise BadInput(f"cannot be read ({error}); check its path") from error


def spans(tar: str) -> Mapping[str, Span]:
    """The span of each file in a plain tar, by name, in tar order; BadInput when it is not a plain tar."""
    try:
        facts = os.stat(tar)
    except OSError as error:
        raise BadInput(f"{tar}: cannot be read ({error.strerror}); check its path and its permissions") from error
    return _spans(tar, facts.st_mtime_ns, facts.st_size)


def _read_file(path: str, count: int | None) -> bytes:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise BadInput("is a folder or a device, not a file; give the path of an image")
        _check_size(status.st_size)
        with open(path, "rb", buffering=0) as file:
            return file.read() if count is None else file.read(count)
    except OSError as error:
        raise BadInput(f"cannot be read ({error.strerror}); check its path and its permissions") from error
    except ValueError as error:  # a zero byte in the path
        raise BadInput(f"cannot be read ({error}); check its path") from error


def _read_member(location: str, count: int | None) -> bytes:
    name, split, tar = location.removeprefix("tar://").partition("::")
    if not split or is_url(tar):
        raise BadInput("is not tar://MEMBER::PATH with a tar on this machine; fetch the tar, or correct its path")
    span = spans(tar).get(name)
    if span is None:
        raise BadInput("the tar has no such member; write the tar again or leave the image out")
    _check_size(span.size)
    with open(tar, "rb", buffering=0) as file:
        return os.pread(file.fileno(), span.size if count is None else min(count, span.size), span.offset)


@lru_cache(maxsize=_TARS)
def _spans(tar: str, changed: int, size: int) -> Mapping[str, Span]:
    """The index of a tar. `changed` (its time in nanoseconds) and `size` only make the cache miss when it changes."""
    try:
        with tarfile.open(tar, "r:") as archive:
            return {part.name: Span(part.offset_data, part.size) for part in archive if part.isreg()}
    except (tarfile.TarError, OSError, ValueError) as error:
        raise BadInput(f"{tar}: is not a plain tar ({error}); decompress it, or fetch it again") from error


def _read_url(location: str, count: int | None) -> bytes:
    scheme, _, rest = location.partition("://")
    if scheme == "file":
        return _read_file(rest, count)
    read = _read_http if scheme in ("http", "https") else _read_object
    data = read(location, MAX_BYTES + 1 if count is None else count)
    _check_size(len(data))
    return data


def _read_http(location: str, count: int) -> bytes:
    try:
        with urllib.request.urlopen(location, timeout=_HTTP_TIMEOUT) as file:
            data: bytes = file.read(count)
            return data
    except (OSError, ValueError, HTTPException) as error:
        raise BadInput(f"cannot be read ({_line(error)}); check the URL and your permission to read it") from error


def _read_object(location: str, count: int) -> bytes:
    scheme, _, rest = location.partition("://")
    bucket, _, key = rest.partition("/")
    url = f"{'gs' if scheme == 'gcs' else scheme}://{bucket}"
    try:
        return _bucket(url, _environment()).get(key, count)
    except AmberError as error:
        reason = str(error).removeprefix(f"{url}/{key}: ").removeprefix(f"{url}: ").rpartition("; ")[0]
        raise BadInput(f"cannot be read ({reason}); check the URL and your permission to read it") from error


@lru_cache(maxsize=16)
def _bucket(url: str, environment: tuple[tuple[str, str], ...]) -> "RemoteFiles":
    """A bucket, with its connections; `environment` only makes the cache miss when that changes."""
    from curation.files.remote_files import RemoteFiles  # with obstore, which most data sets do not need

    return RemoteFiles(url)


def _environment() -> tuple[tuple[str, str], ...]:
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(_CHOICES)))


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise BadInput(f"{size} bytes, at most {MAX_BYTES} are read; shrink it or leave it out")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
