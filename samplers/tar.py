"""Plain ustar, the tar that everything reads: no owner and no time, so that equal input gives equal bytes."""

import hashlib
from typing import TypeVar
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK", "END", "header", "member_name", "padded", "padding"]

Size = TypeVar("Size", int, npt.NDArray[np.int64])

BLOCK = 512

END = bytes(2 * BLOCK)
"""What closes an archive."""

_MAX_STEM = 90  # of the 100 bytes that ustar has for a name; the rest is for a dot and the extension
_OWNER = b"0000644\0" + b"0000000\0" * 2
_TIME = b"\0" + b"0" * 11 + b"\0"
_TYPE = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(155 + 12)
_SUM = sum(_OWNER + _TIME + b" " * 8 + _TYPE)  # the sum is taken with its own field full of spaces


def header(name: str, size: int) -> bytes:
    """The 512 bytes before a file of `size` bytes; `name` is ASCII of at most 100 characters."""
    label, digits = name.encode("ascii"), b"%011o" % size
    total = b"%06o\0 " % (_SUM + sum(label) + sum(digits))
    return b"".join((label.ljust(100, b"\0"), _OWNER, digits, _TIME, total, _TYPE))


def member_name(key: str) -> str:
    """The stem of a sample's files: its key, percent-quoted, so that it holds no slash, no dot and ASCII only.

    WebDataset takes all up to the first dot for the key. A stem that ustar cannot hold ends in a hash of its key.
    """
    stem = quote(key, safe="").replace(".", "%2E")
    if len(stem) > _MAX_STEM:
        return f"{stem[: _MAX_STEM - 33]}-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    return stem


def padded(size: Size) -> Size:
    """`size`, or each of an array of sizes, rounded up to whole blocks."""
    return (size + BLOCK - 1) // BLOCK * BLOCK


def padding(size: int) -> bytes:
    """The zeros that follow a file of `size` bytes."""
    return bytes(-size % BLOCK)
