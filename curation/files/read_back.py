"""Reading back what Amber wrote: a file that was altered, truncated or damaged is Damaged, in one line.

What is checked, and its cost: sha256 of a whole file (about 1 s per GB, once for each process and version of the file),
checksums of Parquet pages (CRC-32, while they are read), and the form of JSON and npy.
"""

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import Damaged

__all__ = ["check_sha256", "json_value", "one_line", "read_json", "read_npy", "read_parquet", "read_with", "sha256_of"]

Content = TypeVar("Content")

FAULTS = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, pa.ArrowException,
)  # fmt: skip
"""What readers raise on damaged bytes. Other processes of the machine may raise OSError too: its message says so."""


def sha256_of(path: Path) -> str:
    """Hex sha256 of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, sha256: str, fix: str) -> Path:
    """`path`; Damaged when the file is missing or its sha256 is another one.

    A version of a file (its inode, size and times) is hashed once in each process.
    """
    try:
        state = path.stat()
        found = _sha256(path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    except FileNotFoundError:
        raise Damaged(f"{path}: is missing; {fix}") from None
    if found != sha256:
        raise Damaged(f"{path}: differs from what was written (its sha256 is another); {fix}")
    return path


def json_value(text: bytes | str) -> Any:
    """The value of a JSON text; ValueError for anything else, deep nesting too.

    >>> json_value("[1, 2]")
    [1, 2]
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deep") from None


def read_json(path: Path, fix: str, form: Callable[[Any], Content]) -> Content:
    """`form` of the JSON value in a file; Damaged when it is not JSON, or `form` cannot read it."""
    return read_with(lambda found: form(json_value(found.read_bytes())), path, fix)


def read_npy(path: Path, fix: str, *, mmap: bool = False) -> npt.NDArray[Any]:
    """The array of an npy file."""
    mode: Literal["r"] | None = "r" if mmap else None
    return read_with(lambda found: np.asanyarray(np.load(found, mmap_mode=mode)), path, fix)


def read_parquet(path: Path, fix: str, *, columns: list[str] | None = None) -> pa.Table:
    """The table of a Parquet file, whose pages are checked where they were written with checksums."""
    return read_with(lambda found: pq.read_table(found, columns=columns, page_checksum_verification=True), path, fix)


def read_with(read: Callable[[Path], Content], path: Path, fix: str) -> Content:
    """What `read` makes of a file; Damaged when its bytes make it fail."""
    try:
        return read(path)
    except MemoryError:
        raise Damaged(f"{path}: cannot be read (it asks for more memory than there is); {fix}") from None
    except FAULTS as error:
        raise Damaged(f"{path}: cannot be read ({one_line(error)}); {fix}") from error


def one_line(error: BaseException) -> str:
    """The message of an error as one short line; its class where it has no message."""
    text = " ".join(str(error).split())[:160] or type(error).__name__
    return f"missing {text}" if isinstance(error, KeyError) else text


@lru_cache(maxsize=256)
def _sha256(path: Path, *state: int) -> str:
    return sha256_of(path)
