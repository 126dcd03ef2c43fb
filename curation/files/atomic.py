"""Files that appear whole or not at all, whatever ends the process that writes them."""

import hashlib
import os
import platform
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

from curation.errors import Failed

__all__ = ["remove_leftovers", "whole"]

_PART = re.compile(r"\.([0-9a-f]{12})\.(\d+)\.[0-9a-f]{8}\.part$")  # machine, process, chance
_ABANDONED = 7 * 24 * 3600.0  # seconds after which what another machine began is taken for left


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to make a file or folder at; leaving the block without an exception puts it in the place of `path`.

    Failed when the disk is full or does not take it; then nothing is left and `path` is as it was. The name tells which
    process of which machine writes, so that `remove_leftovers` knows whose is gone, and no two write into one file.
    """
    part = path.with_name(f"{path.name}.{_machine()}.{os.getpid()}.{uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if part.is_dir():
            _remove(path)
        os.replace(part, path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise Failed(f"{path}: not written ({reason}); free space or mend that, and run the same again") from error
    finally:
        _remove(part)


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove those of `paths` that `whole` had begun in a process of this machine that was killed.

    Whether one of another machine or container runs cannot be seen from here: what it began is removed a week after
    it was written last.
    """
    for path in paths:
        if _is_left(path):
            _remove(path)


def _is_left(path: Path) -> bool:
    writer = _PART.search(path.name)
    if writer is None:
        return False
    if writer[1] == _machine():
        return not _runs(int(writer[2]))
    return time.time() - _written(path) > _ABANDONED


@cache
def _machine() -> str:
    """12 hex digits of whatever numbers processes here: this start of this machine, or a container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        boot = platform.node()
    return hashlib.sha256(boot.encode()).hexdigest()[:12]


def _written(path: Path) -> float:
    """When a file, or one in a folder, was written last, in seconds since 1970; now if it is gone meanwhile."""
    try:
        return max(part.stat().st_mtime for part in (path, *path.rglob("*")))
    except OSError:
        return time.time()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, and is somebody else's
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
