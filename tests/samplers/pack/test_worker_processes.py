"""Packing in processes: the same bytes and errors as in threads, and no leftovers after a kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pictures import pictures
from support.processes import ending

from curation.errors import Damaged, Failed, NotFound
from samplers.pack import shard_jobs
from samplers.pack.pack_writer import write_pack

KEYS = [f"drive/{number:03d}" for number in range(200)]
SHARD = 8192


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every pack as a large one."""
    monkeypatch.setattr(shard_jobs, "_LARGE", 0)


@pytest.fixture
def images(tmp_path: Path) -> pa.Table:
    return pictures(tmp_path / "images", KEYS)


def workers(of: int = 0) -> list[psutil.Process]:
    """Processes that write shards for this process, or for the process `of`."""
    found = []
    for process in psutil.Process(of or None).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # as one that has ended and was not yet waited for
            found += [process] if "samplers.pack.worker_processes" in " ".join(process.cmdline()) else []
    return found


def shards(home: Path) -> set[str]:
    return {path.name for path in (home / "shards").iterdir()}


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_processes_write_the_same_bytes(images: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    popen = subprocess.Popen.__init__
    monkeypatch.setattr(
        subprocess.Popen, "__init__", lambda self, *words, **more: (popen(self, *words, **more), started.append(1))[0]
    )
    many = write_pack(images, tmp_path / "many", shard_bytes=SHARD, workers=3)
    assert len(started) == 3
    one = write_pack(images, tmp_path / "one", shard_bytes=SHARD, workers=1)
    assert len(started) == 3
    assert (many.hash, shards(tmp_path / "many")) == (one.hash, shards(tmp_path / "one"))
    many.verify()
    assert workers() == []


def test_progress_ends_with_all_images(images: pa.Table, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_pack(images, tmp_path / "home", shard_bytes=SHARD, workers=2, progress=lambda *now: seen.append(now))
    assert seen[-1] == (200, 200)


@pytest.mark.parametrize(("harm", "error"), [("missing", NotFound), ("changed", Damaged)])
def test_errors_name_the_first_image(images: pa.Table, tmp_path: Path, harm: str, error: type[Exception]) -> None:
    for number in (150, 60):
        path = Path(images["location"][number].as_py())
        path.unlink() if harm == "missing" else path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(error, match="drive/060"):
        write_pack(images, tmp_path / "home", shard_bytes=SHARD, workers=2)
    assert workers() == []


def test_a_killed_worker_is_reported_and_packing_resumes(
    images: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_jobs, "_TICK", 0.001)

    def kill(done: int, total: int) -> None:
        for process in workers():
            process.kill()

    with pytest.raises(Failed, match=r"a process that writes shards ended \(-9\); run it again"):
        write_pack(images, tmp_path / "home", shard_bytes=SHARD, workers=2, progress=kill)
    whole = write_pack(images, tmp_path / "home", shard_bytes=SHARD, workers=2)
    assert whole.hash == write_pack(images, tmp_path / "other", shard_bytes=SHARD, workers=1).hash
    assert shards(tmp_path / "home") == shards(tmp_path / "other")


SLOW = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
from samplers.pack import shard_jobs
from samplers.pack.pack_writer import write_pack
shard_jobs._LARGE = 0
write_pack(pq.read_table(sys.argv[1]), Path(sys.argv[2]), shard_bytes=8192, workers=2)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(images: pa.Table, tmp_path: Path, how: signal.Signals) -> None:
    """Two images are pipes without a writer, so both workers are waiting when the parent ends."""
    rows = images.to_pylist()
    for number in (0, 199):
        os.mkfifo(tmp_path / f"pipe{number}")
        rows[number]["location"] = f"tar://x::{tmp_path}/pipe{number}"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "images.parquet")
    words = [sys.executable, "-c", SLOW, str(tmp_path / "images.parquet"), str(tmp_path / "home")]
    with ending(subprocess.Popen(words, stderr=subprocess.DEVNULL)) as process:
        wait_for(lambda: len(workers(process.pid)) == 2 and any((tmp_path / "home" / "shards").glob("*.tar")))
        found = workers(process.pid)
        process.send_signal(how)
        process.wait(20)

    def gone() -> bool:
        """Whether both ended; one that waits for a pipe, now or later, continues, and finds its parent gone."""
        for pipe in tmp_path.glob("pipe*"):
            os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))
        return not any(worker.is_running() and worker.status() != "zombie" for worker in found)

    wait_for(gone)
    write_pack(images, tmp_path / "home", shard_bytes=SHARD, workers=2).verify()
    assert not list((tmp_path / "home" / "packs" / ".work").glob("*"))
