"""Locks: exclusive and shared, with patience, in a queue, and released by whatever ends their holder."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.processes import ending

from curation.errors import Busy
from curation.files.locks import acquire, locked

HOLD = """
import sys
from pathlib import Path
from curation.files.locks import locked
with locked(Path(sys.argv[1]), str, shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.read()
"""


def busy(holder: str) -> str:
    return f"{holder} has it"


@contextmanager
def held_elsewhere(path: Path, kind: str = "exclusive") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until the end of the block."""
    words = [sys.executable, "-c", HOLD, str(path), kind]
    with ending(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def free(path: Path, *, shared: bool = False) -> bool:
    """Whether nobody holds the lock in a way that excludes us."""
    try:
        with locked(path, busy, shared=shared):
            return True
    except Busy:
        return False


@pytest.mark.parametrize(("kind", "beside_shared"), [("exclusive", False), ("shared", True)])
def test_an_exclusive_lock_excludes_all_a_shared_one_only_exclusive_ones(
    tmp_path: Path, kind: str, beside_shared: bool
) -> None:
    with held_elsewhere(tmp_path / "lock", kind):
        assert free(tmp_path / "lock", shared=True) is beside_shared
        assert not free(tmp_path / "lock")
    assert free(tmp_path / "lock")


def test_busy_names_the_process_that_holds_the_lock(tmp_path: Path) -> None:
    with (
        held_elsewhere(tmp_path / "lock") as process,
        pytest.raises(Busy, match=f"^process {process.pid} has it$"),
        locked(tmp_path / "lock", busy),
    ):
        pass


def test_busy_does_not_name_an_earlier_holder(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", busy):
        assert int((tmp_path / "lock").read_text()) == os.getpid()
    with (
        held_elsewhere(tmp_path / "lock", "shared"),
        pytest.raises(Busy, match="another process has it"),
        locked(tmp_path / "lock", busy),
    ):
        pass


def test_a_killed_holder_releases_its_lock(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "lock") as process:
        process.kill()
        process.wait()
        assert free(tmp_path / "lock")


def test_threads_exclude_each_other(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", busy):
        assert not free(tmp_path / "lock")


@pytest.mark.parametrize(("patience", "gets_it"), [(0.1, False), (30.0, True)])
def test_a_lock_is_waited_for_as_long_as_patience_lasts(tmp_path: Path, patience: float, gets_it: bool) -> None:
    with held_elsewhere(tmp_path / "lock") as process:
        timer = threading.Timer(0.6, process.kill)
        timer.start()
        try:
            with locked(tmp_path / "lock", busy, patience=patience, poll=0.01):
                got = True
        except Busy:
            got = False
        timer.join()
    assert got is gets_it


def test_a_queue_keeps_a_loop_from_starving_the_others(tmp_path: Path) -> None:
    """A process that takes the lock again and again, with no pause, lets one that waits go first."""
    stop, rounds = threading.Event(), [0]

    def loop() -> None:
        while not stop.is_set():
            with locked(tmp_path / "lock", busy, patience=60, queue=tmp_path / "next", poll=0.001):
                rounds[0] += 1
                time.sleep(0.01)

    thread = threading.Thread(target=loop)
    thread.start()
    while not rounds[0]:
        time.sleep(0.001)
    for _ in range(5):
        before = rounds[0]
        with locked(tmp_path / "lock", busy, patience=60, queue=tmp_path / "next", poll=0.001):
            overtaken = rounds[0] - before
        assert overtaken <= 2
    stop.set()
    thread.join()


def test_a_queue_that_does_not_move_is_busy_too(tmp_path: Path) -> None:
    with (
        held_elsewhere(tmp_path / "next"),
        pytest.raises(Busy, match="another process"),
        locked(tmp_path / "lock", busy, patience=0.05, queue=tmp_path / "next", poll=0.01),
    ):
        pass


def test_an_acquired_descriptor_holds_until_it_is_closed(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    assert acquire(descriptor, shared=True)
    assert not free(tmp_path / "lock")
    os.close(descriptor)
    assert free(tmp_path / "lock")
