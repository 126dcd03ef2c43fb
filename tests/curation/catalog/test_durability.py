"""Killed processes and full disks: acknowledged commits stay, none is half done, and repeating one is a no-op."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from support.killed import leave_half
from support.lamps import declare
from support.paths import python_environment
from support.processes import ending

from amber.cli import run
from curation import AmberError, Catalog, Failed, Task
from curation.catalog import current_labels
from curation.catalog.event_tables import LABELS

COMMITS = 6
"""Commits in one life."""
ROWS = 12
"""Labels in one commit."""
IMPORTED = 4
"""Labels that the ingest adds: those of the evaluation samples."""


def labels_of(name: str, rows: int = ROWS) -> pa.Table:
    """Labels that depend only on the batch id."""
    colors = ["red", "yellow", "green"]
    return pa.Table.from_pylist(
        [
            {"key": f"lamps/red/{i % 8:03d}", "task": "color", "state": "known", "annotator": f"{name}-{i // 8}",
             "text": colors[Random(f"{name} {i}").randrange(3)]}
            for i in range(rows)
        ], LABELS,
    )  # fmt: skip


def say(catalog: Catalog, batch: str, rows: int = ROWS) -> None:
    with catalog.commit(author="w", message="say", batch=batch) as change:
        change.add_labels(labels_of(batch, rows), source="human")


def live(data: Path, home: Path, life: int, landed: int) -> None:
    """Ingest, commits that fold, and compactions; each is acknowledged in the file `landed` after it returns."""
    current_labels.PATIENCE = 2 * ROWS
    assert run(["ingest", str(data), "--author", "ada", "--home", str(home)]) == 0
    catalog = Catalog.open(home)
    for number in range(COMMITS):
        say(catalog, f"{life}-{number}")
        os.write(landed, f"{life}-{number}\n".encode())
        if number % 3 == 1:
            catalog.compact()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return declare(tmp_path / "data", counts=(8, 2, 6))


# Killed at any moment

FORKS = """
import os, sys
from pathlib import Path
import curation.ingestion.ingest, curation.ingestion.read_dataset, curation.ingestion.readers.class_folders
from test_durability import live
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
for line in sys.stdin:
    data, home, life, landed = line.split()
    child = os.fork()
    if not child:
        sys.stdin.close()
        out = os.open(landed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(2, 1)
        live(Path(data), Path(home), int(life), out)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""A process that has imported everything and forks one process per life, so that kills hit the work."""


class Lives:
    """Runs lives, each in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]", data: Path, landed: Path) -> None:
        assert process.stdin
        assert process.stdout
        self.lines, self.answers, self.data, self.landed = process.stdin, process.stdout, data, landed

    def run(self, home: Path, life: int, *, after: float | None = None) -> bool:
        """Run one life, kill it `after` so many seconds, and return whether it completed."""
        print(self.data, home, life, self.landed, file=self.lines, flush=True)
        child = int(self.answers.readline())
        if after is not None:
            time.sleep(after)
            subprocess.run(["kill", "-9", str(child)], capture_output=True, check=False)
        code = int(self.answers.readline())
        assert code in (0, -signal.SIGKILL)
        return code == 0


@contextmanager
def lives(data: Path, landed: Path) -> Iterator[Lives]:
    words, pipe = [sys.executable, "-c", FORKS], subprocess.PIPE
    environment = python_environment(Path(__file__).parent)
    with ending(subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=environment)) as process:
        yield Lives(process, data, landed)


def log_of(home: Path) -> list[tuple[str, str]]:
    """Batch id and digest of each commit, oldest first; empty without a catalog."""
    if not (home / "catalog.duckdb").exists():
        return []
    with Catalog.open(home).read() as now:
        rows = now.log().to_pylist()
        torn = now.counts()["label_event"] - IMPORTED - ROWS * (len(rows) - 1)
    assert not rows or torn == 0
    assert [row["id"] for row in rows] == list(range(len(rows), 0, -1))
    return [(row["batch"], row["digest"]) for row in reversed(rows)]


def contents(home: Path) -> dict[str, Any]:
    """The history of a catalog, and the current labels at each commit."""
    with Catalog.open(home).read() as now:
        labels = [now.earlier(commit).labels("color").to_pylist() for commit in range(1, now.commit + 1)]
        return {"log": log_of(home), "counts": now.counts(), "labels": labels}


@pytest.mark.parametrize("kills", [24, pytest.param(1000, marks=pytest.mark.soak)])
def test_kills_lose_nothing_and_tear_nothing(kills: int, data: Path, tmp_path: Path) -> None:
    """Kills spread over ingest, commits, checkpoints, folds and compactions, in three lives per workspace."""
    moments, home, done, homes = Random(kills), tmp_path / "home-0", 0, 0
    landed = tmp_path / "landed"
    with lives(data, landed) as process:
        started = time.monotonic()
        for life in range(3):
            process.run(tmp_path / "whole", life)
        span = (time.monotonic() - started) / 3
        whole = contents(tmp_path / "whole")
        while done < kills:
            home = tmp_path / f"home-{homes}"
            landed.write_text("")
            before: list[tuple[str, str]] = []
            for life in range(3):
                while not process.run(home, life, after=moments.uniform(0, 0.7 * span)):
                    done += 1
                    log = log_of(home)
                    assert log[: len(before)] == before
                    assert log == whole["log"][: len(log)]
                    assert set(landed.read_text().split()) <= {batch for batch, _ in log}
                    before = log
            assert contents(home) == whole
            Catalog.open(home).compact()
            assert left_over(home) == []
            assert contents(home) == whole
            shutil.rmtree(home)
            homes += 1


def left_over(home: Path) -> list[str]:
    """Files beside a catalog that should not be there."""
    return sorted(
        {path.name for path in home.iterdir()} - {"catalog.duckdb", "catalog.lock", "catalog.next", "oracle.parquet"}
    )


def test_what_a_killed_compaction_left_is_removed(data: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert run(["ingest", str(data), "--author", "ada", "--home", str(home)]) == 0
    leave_half(home / "oracle.parquet")
    for name in ("catalog.duckdb.1.part", "catalog.duckdb.2.part.wal"):
        (home / name).write_bytes(b"half")
    say(Catalog.open(home), "next")
    assert left_over(home) == []


# A full disk


@pytest.fixture
def catalog(data: Path, tmp_path: Path) -> Catalog:
    assert run(["ingest", str(data), "--author", "ada", "--home", str(tmp_path / "home")]) == 0
    return Catalog.open(tmp_path / "home")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("room", [0, 4_000, 40_000, 200_000, 400_000, 600_000, 1_000_000, 2_000_000])
@pytest.mark.parametrize("patience", [1, 100_000])
def test_a_disk_that_fills_up(
    room: int, patience: int, catalog: Catalog, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits until one fails: all before it are stored, it is not, and it succeeds once there is room."""
    monkeypatch.setattr(current_labels, "PATIENCE", patience)
    shutil.copytree(catalog.home, small_disk / "home")
    catalog = Catalog.open(small_disk / "home")
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - room))
    acknowledged = []
    with pytest.raises(Failed, match="nothing of this commit was written") as refused:  # noqa: PT012
        for number in range(400):
            say(catalog, f"full-{number}", rows=4000)
            acknowledged.append(f"full-{number}")
    assert "\n" not in str(refused.value)
    assert [batch for batch, _ in log_of_any(catalog)][1:] == acknowledged
    (small_disk / "filler").unlink()
    assert [batch for batch, _ in log_of_any(catalog)][1:] == acknowledged
    say(catalog, f"full-{len(acknowledged)}", rows=4000)
    assert len(log_of_any(catalog)) == len(acknowledged) + 2


def log_of_any(catalog: Catalog) -> list[tuple[str, str]]:
    with catalog.read() as now:
        return [(row["batch"], row["digest"]) for row in reversed(now.log().to_pylist())]


@pytest.mark.parametrize("room", [0, 100_000, 600_000, 1_000_000])
def test_a_disk_too_small_to_compact(room: int, catalog: Catalog, small_disk: Path) -> None:
    shutil.copytree(catalog.home, small_disk / "home")
    catalog = Catalog.open(small_disk / "home")
    say(catalog, "one")
    before = contents(catalog.home)
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - room))
    with pytest.raises(AmberError, match="free space"):
        catalog.compact()
    assert contents(catalog.home) == before
    assert left_over(catalog.home) in ([], ["catalog.duckdb.wal"])  # it holds a commit until the next checkpoint
    (small_disk / "filler").unlink()
    catalog.compact()
    assert contents(catalog.home) == before


def test_a_fold_without_room_does_not_fail_its_commit(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("CREATE TABLE label_fold (i INTEGER)")
        raise duckdb.IOException("Could not write: No space left on device")

    monkeypatch.setattr(current_labels, "PATIENCE", 1)
    with monkeypatch.context() as patch:
        patch.setattr(current_labels, "fold", full)
        say(catalog, "one")
    say(catalog, "two")
    assert [batch for batch, _ in log_of(catalog.home)][1:] == ["one", "two"]
    with duckdb.connect(str(catalog.file), read_only=True) as connection:
        assert connection.execute("SELECT id FROM folded").fetchall() == [(3,)]


# Growth


def test_the_file_stays_small_over_updates(tmp_path: Path) -> None:
    """100 rounds that change half of all labels, every fifth with a compaction: at most 1.5 times a fresh file."""
    catalog = many_samples(tmp_path / "home", 2000)
    for number in range(100):
        half = Random(number).sample(range(2000), 1000)
        with catalog.commit(author="ada", message="update") as change:
            rows = [{"sample_id": i, "task": "car", "state": "known", "text": "true", "annotator": "v"} for i in half]
            change.add_labels(pa.Table.from_pylist(rows), source="import")
        if number % 5 == 4:
            catalog.compact()
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{catalog.file}' AS old (READ_ONLY)")
        connection.execute(f"ATTACH '{tmp_path / 'fresh.duckdb'}' AS fresh")
        connection.execute("COPY FROM DATABASE old TO fresh")
    assert catalog.file.stat().st_size <= 1.5 * (tmp_path / "fresh.duckdb").stat().st_size


def many_samples(home: Path, count: int) -> Catalog:
    """A catalog of one task and of samples without image files."""
    catalog, keys = Catalog.create(home), [f"s{number}" for number in range(count)]
    facts = {"location": "", "sha256": "", "phash": 0, "format": "JPEG", "width": 48, "height": 48, "bytes": 1}
    with catalog.commit(author="ada", message="begin") as change:
        change.add_tasks([Task(name="car", kind="binary", owner="ada")])
        change.add_samples(pa.Table.from_pylist([{"key": key, **facts} for key in keys]), dataset="d")
    return catalog


# Several at once

WRITER = """
import sys
from curation import Catalog
from test_durability import say
catalog = Catalog.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    say(catalog, f"{sys.argv[2]}-{number}")
    say(catalog, f"shared-{number}")
"""


@pytest.mark.parametrize("each", [6, pytest.param(250, marks=pytest.mark.soak)])
def test_four_writers_lose_and_double_nothing(each: int, catalog: Catalog) -> None:
    environment, pipe = python_environment(Path(__file__).parent), subprocess.PIPE
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(catalog.home), name, str(each)],
            stdin=pipe, stdout=pipe, text=True, env=environment,
        )
        for name in "abcd"
    ]  # fmt: skip
    for process in writers:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in writers:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(timeout=600) for process in writers] == [0] * 4
    for process in writers:
        process.communicate()
    batches = [batch for batch, _ in log_of(catalog.home)][1:]
    assert sorted(batches) == sorted(f"{name}-{n}" for name in ("a", "b", "c", "d", "shared") for n in range(each))


LARGE = """
import sys
from curation import Catalog

half = "SELECT one.i FROM range(1_000_000) AS one(i) JOIN range(1_000_000) AS other(i) ON one.i = other.i"
with Catalog.create(sys.argv[1]).read() as now:
    print(len(now.view.table(f"{half} UNION ALL {half}")))
"""


def test_a_large_union_does_not_deadlock(tmp_path: Path) -> None:
    words = [sys.executable, "-c", LARGE, str(tmp_path / "home")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "2000000\n", done.stderr
