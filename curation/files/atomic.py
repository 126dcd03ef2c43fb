"""Files that appear whole or not at all, even when the process that writes them is killed."""

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

__all__ = ["is_leftover", "machine", "process_runs", "remove_leftovers", "whole"]

_PART = re.compile(r"\.([0-9a-f]{12})\.(\d+)\.[0-9a-f]{8}\.part$")  # machine, process, random digits
_ABANDONED = 7 * 24 * 3600.0  # seconds after which an unfinished file of another machine counts as abandoned


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path for a file or folder, which replaces `path` when the block ends without an exception.

    Failed when the disk is full or refuses the write; then nothing is left behind and `path` is unchanged. The name of
    the temporary path holds the machine and the process: no two processes share one, and `remove_leftovers` recognises
    those whose process died.
    """
    part = path.with_name(f"{path.name}.{machine()}.{os.getpid()}.{uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if part.is_dir():
            _remove(path)
        os.replace(part, path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise Failed(f"{path}: not written ({reason}); free space or fix the cause, then run the same again") from error
    finally:
        _remove(part)


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove the temporary files among `paths` that a process left when it was killed inside `whole`.

    A process on another machine or in another container may still run: its files are removed a week after their last
    write.
    """
    for path in paths:
        if is_leftover(path):
            _remove(path)


def is_leftover(path: Path) -> bool:
    """Whether a process left this temporary file when it was killed inside `whole`."""
    writer = _PART.search(path.name)
    if writer is None:
        return False
    if writer[1] == machine():
        return not process_runs(int(writer[2]))
    return time.time() - _written(path) > _ABANDONED


@cache
def machine() -> str:
    """12 hex digits that identify the process namespace: this boot of this machine, or a container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        boot = platform.node()
    return hashlib.sha256(boot.encode()).hexdigest()[:12]


def process_runs(process: int) -> bool:
    """Whether a process of this `machine` with this id runs; one that has ended and waits for its parent does not."""
    with suppress(OSError):  # no /proc: not Linux, or the process is gone
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, under another user
        return True
    return True


def _written(path: Path) -> float:
    """Time of the last write to a file, or to any file of a folder, in seconds since 1970; now if it is gone."""
    try:
        return max(part.stat().st_mtime for part in (path, *path.rglob("*")))
    except OSError:
        return time.time()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
