"""Reading back what Amber wrote: a file that was altered, truncated or damaged is Damaged, in one line.

What is checked, and its cost: sha256 of a whole file (about 1 s per GB, once for each process and version of the file),
checksums of Parquet pages (CRC-32, while they are read) and of the parts of an archive, and the form of JSON and npy.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import Damaged

__all__ = [
    "check_archive", "check_sha256", "json_value", "one_line", "read_json", "read_npy", "read_parquet", "read_with",
    "sealed", "sha256_of", "unsealed",
]  # fmt: skip

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
    if _sha256(*_version(path, fix)) != sha256:
        raise Damaged(f"{path}: differs from what was written (its sha256 is another); {fix}")
    return path


def check_archive(path: Path, fix: str) -> Path:
    """`path`; Damaged when it is no zip archive, or a part of it differs from its checksum (CRC-32).

    torch writes such archives and compares no checksums itself. A version of a file is read once in each process.
    """
    if fault := _archive_fault(*_version(path, fix)):
        raise Damaged(f"{path}: {fault}; {fix}")
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


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as JSON has it, with the digest of its fields in `digest`.

    >>> unsealed(sealed({"id": "a", "size": (32, 32)}))
    {'id': 'a', 'size': [32, 32]}
    """
    plain: dict[str, Any] = json.loads(json.dumps(record))
    return {**plain, "digest": _digest(plain)}


def unsealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that `sealed` took; ValueError when one differs. A record without a digest is of an older Amber."""
    fields = dict(record)
    if fields.pop("digest", None) not in (None, _digest(fields)):
        raise ValueError("it differs from what was written, its digest is another")
    return fields


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


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _version(path: Path, fix: str) -> tuple[Path, int, int, int, int]:
    """What tells a version of a file from others; Damaged when there is no such file."""
    try:
        state = path.stat()
    except FileNotFoundError:
        raise Damaged(f"{path}: is missing; {fix}") from None
    return path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


@lru_cache(maxsize=256)
def _sha256(path: Path, *state: int) -> str:
    return sha256_of(path)


@lru_cache(maxsize=256)
def _archive_fault(path: Path, *state: int) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, *FAULTS) as error:
        return f"cannot be read ({one_line(error)})"
    return f"{broken} differs from what was written" if broken else ""
