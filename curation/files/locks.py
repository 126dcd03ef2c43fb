"""Locks that processes of one machine hold in turn: `flock` on a file, which ends with the process that holds it.

The content of a lock file only names the holder of an exclusive lock, for messages. Threads exclude each other too:
each call opens the file again.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from curation.errors import Busy

__all__ = ["acquire", "in_use", "locked", "not_in_use"]

POLL: Final = 0.1
"""Seconds between two tries for a lock: `flock` can only wait for ever, or not at all."""

USE: Final = "use.lock"
PATIENCE: Final = 60.0


@contextmanager
def locked(
    path: Path,
    busy: Callable[[str], str],
    *,
    shared: bool = False,
    patience: float = 0.0,
    queue: Path | None = None,
    poll: float = POLL,
) -> Iterator[None]:
    """Hold the lock of the file `path`, which is made where it is missing, for the length of the block.

    Any number of processes hold a `shared` lock together; otherwise there is one holder. After `patience` seconds of
    waiting, Busy is raised with the line that `busy(holder)` returns; `holder` is "process 123", or "another process"
    where the holder is unknown (as for a shared lock). Where holders come back at once, as in a loop of commits, all
    pass a `queue` (a second file): one process at a time waits for the lock, so a loop cannot starve the others.

    >>> with locked(folder / "pack.lock", lambda holder: f"{folder}: {holder} packs there; wait for it, or end it"):
    ...     pass
    """
    deadline = time.monotonic() + patience
    with _opened(path) as lock:
        with _opened(queue or path) as turn:
            if (queue and not acquire(turn, patience=patience, poll=poll)) or not acquire(
                lock, shared=shared, patience=deadline - time.monotonic(), poll=poll
            ):
                raise Busy(busy(_holder(lock)))
        if not shared:
            _name_holder(lock, f"{os.getpid():<20}")
        try:
            yield
        finally:
            if not shared:
                _name_holder(lock, " " * 20)


@contextmanager
def in_use(home: Path) -> Iterator[None]:
    """While the block runs, nothing is pruned from the workspace `home`; any number of processes use it together.

    A workspace that this process may not write to is read without a lock.
    """
    if not os.access(home, os.W_OK):
        yield
        return
    busy = f"{home}: {{}} prunes there; wait for it, or end it"
    with locked(home / USE, busy.format, shared=True, patience=PATIENCE):
        yield


@contextmanager
def not_in_use(home: Path) -> Iterator[None]:
    """Busy while another process, or a stream of this one, uses plans, packs, features or checkpoints of `home`."""
    busy = f"{home}: {{}} uses its plans, packs, features or checkpoints; wait for it, or end it"
    with locked(home / USE, busy.format):
        yield


def acquire(descriptor: int, *, shared: bool = False, patience: float = 0.0, poll: float = POLL) -> bool:
    """Whether the lock of an open file was acquired within `patience` seconds; closing the file releases it."""
    deadline = time.monotonic() + patience
    while not _try(descriptor, shared=shared):
        if time.monotonic() > deadline:
            return False
        time.sleep(poll)
    return True


def _try(descriptor: int, *, shared: bool) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _name_holder(descriptor: int, name: str) -> None:
    with suppress(OSError):  # on a full disk
        os.pwrite(descriptor, name.encode(), 0)


def _holder(descriptor: int) -> str:
    number = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    return f"process {number}" if number.isdigit() else "another process"
