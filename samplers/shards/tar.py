"""Plain ustar, the tar format that every reader knows. No owner and no time: equal input gives equal bytes."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from curation.arrays import Ints

__all__ = ["BLOCK", "END", "headers", "member_name", "padded", "padding"]

Size = TypeVar("Size", int, Ints)

BLOCK = 512

END = bytes(2 * BLOCK)
"""The end of an archive."""

_MAX_STEM = 90  # ustar names have at most 100 bytes; the rest is for a dot and the extension
_NAME, _SIZE, _SUM = slice(0, 100), slice(124, 135), slice(148, 154)
_OWNER, _NO_TIME = b"0000644\0" + b"0000000\0" * 2, b"0" * 11 + b"\0"
_TYPE = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(155 + 12)
_REST = bytes(100) + _OWNER + bytes(12) + _NO_TIME + b"000000\0 " + _TYPE
_REST_SUM = sum(_REST) - sum(_REST[148:156]) + 8 * ord(" ")  # the checksum counts its own field as spaces
_PLAIN = str.maketrans({chr(code): quote(chr(code), safe="").replace(".", "%2E") for code in range(128)})


def headers(names: Sequence[str], sizes: Ints) -> npt.NDArray[np.uint8]:
    """[n, 512] headers of files of `sizes` bytes; `names` are ASCII of at most 100 characters."""
    blocks = np.tile(np.frombuffer(_REST, np.uint8), (len(names), 1))
    blocks[:, _NAME] = np.array(names, "S100").view(np.uint8).reshape(-1, 100)
    blocks[:, _SIZE] = _octal(sizes, 11)
    variable = blocks[:, _NAME].sum(axis=1, dtype=np.int64) + blocks[:, _SIZE].sum(axis=1, dtype=np.int64)
    blocks[:, _SUM] = _octal(variable + _REST_SUM, 6)
    return blocks


def member_name(key: str) -> str:
    """The stem of a sample's files: its key, percent-quoted to ASCII without slashes and dots.

    WebDataset reads everything up to the first dot as the key. A stem that is too long for ustar ends in a hash of its
    key.

    >>> member_name("drive/1.a")
    'drive%2F1%2Ea'
    """
    stem = key.translate(_PLAIN) if key.isascii() else quote(key, safe="").replace(".", "%2E")
    if len(stem) > _MAX_STEM:
        return f"{stem[: _MAX_STEM - 33]}-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    return stem


def padded(size: Size) -> Size:
    """`size`, or each of an array of sizes, rounded up to whole blocks."""
    return (size + BLOCK - 1) // BLOCK * BLOCK


def padding(size: int) -> bytes:
    """The zero bytes after a file of `size` bytes."""
    return bytes(-size % BLOCK)


def _octal(numbers: Ints, digits: int) -> npt.NDArray[np.uint8]:
    shifts = 3 * np.arange(digits - 1, -1, -1)
    return ((np.asarray(numbers)[:, None] >> shifts & 7) + ord("0")).astype(np.uint8)
