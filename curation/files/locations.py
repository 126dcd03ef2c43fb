"""Where an image lies, as the catalog says it, and its bytes.

A location is the path of a file, a URL, or a member of a plain tar, `tar://MEMBER::PATH` in fsspec's chained form. Tar
members are read through an index of offsets that is built once for each tar: fsspec opens the tar anew for each member.
HTTP is read by the standard library, since fsspec's own wants aiohttp and eight packages more; every other scheme (s3,
gs, az, memory, ...) goes through fsspec, which says what to install for it.
"""

import os
import stat
import tarfile
import urllib.request
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from curation.errors import BadInput

__all__ = ["MAX_BYTES", "Span", "is_url", "member", "read_bytes", "read_into", "spans"]

MAX_BYTES = 1 << 30
"""A larger image is not read."""

_HTTP_TIMEOUT = 60.0  # seconds of silence
_TARS = 256  # indices of tars that are kept: a data set's images lie in a tar one after the other


class Span(NamedTuple):
    """Where the bytes of a member lie in its tar."""

    offset: int
    size: int


def is_url(location: str) -> bool:
    """Whether `location` is no path of this machine's file system."""
    return "://" in location


def member(name: str, tar: str) -> str:
    """The location of the member `name` of the tar at `tar`."""
    return f"tar://{name}::{tar}"


def read_bytes(location: str, count: int | None = None) -> bytes:
    """The bytes of an image, or its first `count`; BadInput, without the location, says why they cannot be had."""
    if not is_url(location):
        return _read_file(location, count)
    if location.startswith("tar://"):
        return _read_member(location, count)
    return _read_url(location, count)


def read_into(location: str, room: memoryview) -> int:
    """Read an image into `room`, which is one byte longer than it should be; how many bytes there were to read.

    BadInput as `read_bytes` raises it.
    """
    if is_url(location):
        data = read_bytes(location)
        room[: len(data)] = data[: len(room)]
        return min(len(data), len(room))
    try:
        descriptor = os.open(location, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe is not waited for
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
    """Where the files in a plain tar lie, by name, in its order; BadInput when it is none."""
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
        raise BadInput("is no tar://MEMBER::PATH of a tar on this machine; fetch the tar, or name its path")
    span = spans(tar).get(name)
    if span is None:
        raise BadInput("the tar holds no such member; pack it again or leave it out")
    _check_size(span.size)
    with open(tar, "rb", buffering=0) as file:
        return os.pread(file.fileno(), span.size if count is None else min(count, span.size), span.offset)


@lru_cache(maxsize=_TARS)
def _spans(tar: str, changed: int, size: int) -> Mapping[str, Span]:
    """The index of a tar as it was `changed`, in nanoseconds, with that `size`."""
    try:
        with tarfile.open(tar, "r:") as archive:
            return {part.name: Span(part.offset_data, part.size) for part in archive if part.isreg()}
    except (tarfile.TarError, OSError, ValueError) as error:
        raise BadInput(f"{tar}: is no plain tar ({error}); unpack what compresses it, or fetch it again") from error


def _read_url(location: str, count: int | None) -> bytes:
    opened = _open_http if urlsplit(location).scheme in ("http", "https") else _open_elsewhere
    try:
        with opened(location) as file:
            data: bytes = file.read(MAX_BYTES + 1 if count is None else count)
    except ImportError as error:
        raise BadInput(f"cannot be read ({_line(error)}); install that, or fetch the file") from error
    except Exception as error:  # each file system raises errors of its own
        raise BadInput(f"cannot be read ({_line(error)}); check the URL and the rights to it") from error
    _check_size(len(data))
    return data


def _open_http(location: str) -> Any:
    return urllib.request.urlopen(location, timeout=_HTTP_TIMEOUT)


def _open_elsewhere(location: str) -> Any:
    import fsspec  # half a dozen modules that most data sets do not need

    return fsspec.open(location, "rb")


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise BadInput(f"{size} bytes, at most {MAX_BYTES} are read; shrink it or leave it out")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
