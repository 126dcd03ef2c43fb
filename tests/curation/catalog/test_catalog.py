"""Commits: atomic, repeatable, and readable at any older commit, even after kills."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from support.homes import TASKS, copy_home, label, labels, make_home
from support.paths import python_environment
from support.postgres import Server

from curation import AmberError, BadInput, Busy, Catalog, Damaged, Failed, NotFound
from curation.requests.proposals import Proposal, propose

WRITER = """
import sys
from curation import Catalog
from support.homes import label, labels
catalog = Catalog.open(sys.argv[1])
for number in range(10_000):
    with catalog.commit(author="w", message="m", batch=f"{sys.argv[2]}-{number}") as change:
        rows = [label(f"pictures/{i:05d}", "car", True, annotator=f"{sys.argv[2]}-{number}") for i in range(20)]
        change.add_labels(labels(rows), source="human")
    print(number, flush=True)
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, lake: Server | None) -> Catalog:
    return make_home(tmp_path_factory.mktemp("catalog"), samples=40, lake=lake)


@pytest.fixture
def catalog(original: Catalog, tmp_path: Path, lake: Server | None) -> Catalog:
    return copy_home(original, tmp_path, lake)


def one_label(catalog: Catalog, *, batch: str | None = None, author: str = "ada") -> int:
    with catalog.commit(author=author, message="one", batch=batch) as change:
        change.add_labels(labels([label("pictures/00001", "car", True, "ada")]), source="human")
        return change.id


def counts(catalog: Catalog) -> dict[str, int]:
    with catalog.read() as now:
        return now.counts()


def test_same_batch_again_is_a_no_op(catalog: Catalog) -> None:
    first = one_label(catalog, batch="b")
    before = counts(catalog)
    assert one_label(catalog, batch="b") == first
    assert counts(catalog) == before
    assert catalog.has("b")
    assert not catalog.has("c")


def test_an_exception_leaves_the_catalog_unchanged(catalog: Catalog) -> None:
    before = counts(catalog)
    with pytest.raises(ZeroDivisionError):
        half_a_commit(catalog)
    assert counts(catalog) == before


def half_a_commit(catalog: Catalog) -> None:
    """A commit that breaks after its first label."""
    with catalog.commit(author="ada", message="half") as change:
        change.add_labels(labels([label("pictures/00001", "car", True)]), source="human")
        raise ZeroDivisionError


def test_commit_needs_an_author(catalog: Catalog) -> None:
    with pytest.raises(BadInput, match="every commit has one"):
        one_label(catalog, author=" ")


def test_older_commits_stay_readable(catalog: Catalog) -> None:
    with catalog.read() as now:
        known, commit = len(now.labels("bike")), now.commit
    with catalog.commit(author="ada", message="more") as change:
        keys = [f"pictures/{number:05d}" for number in range(40)]
        change.add_labels(labels([label(key, "bike", False, "ada") for key in keys]), source="human")
        change.add_attributes(pa.table({"key": keys, "night": [True] * 40}))
        change.add_slice("dark", "attr.night")
    propose(catalog, Proposal(budget=1, seed=0), author="ada", batch="ask")
    with catalog.read(commit) as then, catalog.read() as now:
        assert (len(then.labels("bike")), len(now.labels("bike"))) == (known, 40)
        assert "dark" not in then.slices()
        night = now.slices()["night"].predicate
        assert (len(then.members(night)) < 40, len(now.members(night))) == (True, 40)
        assert (len(then.requests()), len(now.requests("open"))) == (0, 1)
    with pytest.raises(NotFound, match="commit 7"), catalog.read(7):
        pass


def test_equal_histories_have_equal_digests(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        catalog = make_home(tmp_path / name, samples=12, seed=name == "c")
        one_label(catalog, batch="b")
        with catalog.read() as now:
            digests.append(now.digest)
    # locations are part of the digest, so the same pictures elsewhere are another history
    assert len(set(digests)) == 3
    assert one_word_digest(tmp_path / "d", "ada", "human") != one_word_digest(tmp_path / "e", "bob", "human")
    assert one_word_digest(tmp_path / "f", "ada", "human") != one_word_digest(tmp_path / "g", "ada", "import")
    assert one_word_digest(tmp_path / "h", "ada", "human") == one_word_digest(tmp_path / "i", "ada", "human")
    again = make_home_at(tmp_path / "a")
    with again.read() as now:
        assert now.digest == digests[0]


def test_a_digest_covers_the_commits_before(tmp_path: Path) -> None:
    """Two last commits with equal content and different parents differ."""
    digests = set()
    for name in ("a", "b"):
        catalog = Catalog.create(tmp_path / name)
        with catalog.commit(author="ada", message=name, batch=name) as change:
            change.add_tasks(TASKS[:1])
        with catalog.commit(author="ada", message="same", batch="same") as change:
            change.add_tasks(TASKS[1:2])
        with catalog.read() as now:
            digests.add(now.digest)
    assert len(digests) == 2


def one_word_digest(home: Path, annotator: str, source: str) -> str:
    """The digest of a catalog with one sample and one label."""
    catalog = Catalog.create(home)
    facts = {
        "key": "a",
        "location": "a",
        "sha256": "0",
        "phash": 0,
        "format": "JPEG",
        "width": 1,
        "height": 1,
        "bytes": 1,
    }
    with catalog.commit(author="ada", message="one", batch="b") as change:
        change.add_tasks(TASKS[:2])
        change.add_samples(pa.Table.from_pylist([facts]), dataset="d")
        change.add_labels(labels([label("a", "car", True, annotator)]), source=source)
    with catalog.read() as now:
        return now.digest


def make_home_at(folder: Path) -> Catalog:
    """The same history again, over the same pictures."""
    for path in (folder / "home").iterdir():
        path.unlink()
    for path in (folder / "images").iterdir():
        path.unlink()
    (folder / "images").rmdir()
    catalog = make_home(folder, samples=12)
    one_label(catalog, batch="b")
    return catalog


def writer(catalog: Catalog, name: str) -> "subprocess.Popen[str]":
    return start(WRITER, str(catalog.home), name)


FORKER = """
import os, sys
from curation import Catalog
from support.homes import label, labels
for line in sys.stdin:
    name, landed = line.split()
    pid = os.fork()
    if not pid:
        catalog, out = Catalog.open(sys.argv[1]), os.open(landed, os.O_WRONLY | os.O_CREAT)
        for number in range(10_000):
            with catalog.commit(author="w", message="m", batch=f"{name}-{number}") as change:
                rows = [label(f"pictures/{i:05d}", "car", True, f"{name}-{number}") for i in range(20)]
                change.add_labels(labels(rows), source="human")
            os.write(out, f"{name}-{number}\\n".encode())
    print(pid, flush=True)
    os.waitpid(pid, 0)
"""


def test_kills_lose_no_commit_and_leave_none_half_done(catalog: Catalog, tmp_path: Path, lake: Server | None) -> None:
    process = start(FORKER, str(catalog.home))
    assert process.stdin is not None
    assert process.stdout is not None
    generator = np.random.default_rng(0)
    acknowledged: set[str] = set()
    for kill in range(8 if lake else 24):
        written = tmp_path / f"landed-{kill}"
        process.stdin.write(f"{kill} {written}\n")
        process.stdin.flush()
        pid = int(process.stdout.readline())
        while not written.exists() or not written.read_text():
            time.sleep(0.002)
        time.sleep(float(generator.uniform(0, 0.08)))
        os.kill(pid, signal.SIGKILL)
        process.poll()
        with catalog.read() as now:
            landed = [row["batch"] for row in now.log().to_pylist() if row["author"] == "w"]
            events = now.counts()["label_event"]
        acknowledged |= set(written.read_text().split())
        assert acknowledged <= set(landed)
        assert len(landed) == len(set(landed)) <= len(acknowledged) + kill + 1
        assert events - counts_before(catalog) == 20 * len(landed)
    process.communicate()
    one_label(catalog)


def start(code: str, *arguments: str) -> "subprocess.Popen[str]":
    environment = python_environment(Path(__file__).parent)
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def counts_before(catalog: Catalog) -> int:
    """Label events of the first commit."""
    with catalog.read(1) as then:
        return then.counts()["label_event"]


def test_two_writers_take_turns(catalog: Catalog) -> None:
    writers = [writer(catalog, name) for name in ("left", "right")]
    for _ in range(3):
        for process in writers:
            assert process.stdout is not None
            process.stdout.readline()
    for process in writers:
        process.send_signal(signal.SIGKILL)
    commits = [3 + len(process.communicate()[0].split()) for process in writers]
    with catalog.read() as now:
        batches = [row["batch"] for row in now.log().to_pylist()]
    assert len(batches) == len(set(batches)) >= 1 + sum(commits)


HOLDER = """
import sys
from curation import Catalog
with Catalog.open(sys.argv[1]).commit(author="w", message="long"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_held_catalog_names_its_holder(catalog: Catalog, lake: Server | None) -> None:
    process = start(HOLDER, str(catalog.home))
    assert process.stdout is not None
    process.stdout.readline()
    impatient = Catalog(catalog.home, patience=0.1)
    refused = (one_label,) if lake else (one_label, counts)  # on DuckLake writers do not block readers
    for work in refused:
        with pytest.raises(Busy, match=f"process {process.pid} .*has held it"):
            work(impatient)
    assert not lake or counts(impatient) == counts(catalog)
    process.communicate()
    assert one_label(catalog) == 3
    with catalog.read(), catalog.read():
        pass


def test_a_killed_holder_releases_the_catalog(catalog: Catalog) -> None:
    process = start(HOLDER, str(catalog.home))
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    assert one_label(catalog) == 2
    process.communicate()


def test_not_a_workspace(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is not an Amber workspace"):
        Catalog.open(tmp_path)
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(BadInput, match="a workspace is a folder"):
            Catalog.create(place)


def test_not_a_catalog(tmp_path: Path) -> None:
    home = tmp_path / "blocked"
    home.mkdir()
    (home / "catalog.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(Damaged, match=r"cannot be opened"):
        Catalog.open(home)
    (home / "catalog.duckdb").unlink()
    with duckdb.connect(str(home / "catalog.duckdb")) as connection:
        connection.execute("CREATE TABLE meta (other INTEGER)")
    with pytest.raises(Damaged, match="is not a catalog of Amber"):
        Catalog.open(home)


@pytest.mark.parametrize("lake", ["file"], indirect=True)
@pytest.mark.parametrize("place", [0.0, 0.005, 0.3, 0.5, 0.95])
def test_corrupt_file(catalog: Catalog, place: float) -> None:
    data = np.fromfile(catalog.file, np.uint8)
    first = int(len(data) * place)
    data[first : first + 3000] ^= 0xFF
    data.tofile(catalog.file)
    with pytest.raises(Damaged, match="restore a backup") as caught:
        read_all(catalog)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lake", ["file"], indirect=True)
def test_truncated_file(catalog: Catalog) -> None:
    os.truncate(catalog.file, catalog.file.stat().st_size // 2)
    with pytest.raises(Damaged, match="restore a backup"):
        read_all(catalog)


def read_all(catalog: Catalog) -> None:
    """Open a catalog and read everything in it."""
    with Catalog.open(catalog.home).read() as now:
        now.samples()
        for task in now.tasks():
            now.labels(task)


def test_newer_schema(catalog: Catalog) -> None:
    with catalog.backend.writing() as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    with pytest.raises(BadInput, match="its schema is 99"):
        Catalog.open(catalog.home)


FULL = """
import resource, signal, sys
from curation import AmberError, Catalog
from support.homes import label, labels
catalog = Catalog.open(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
rows = [label(f"pictures/{i:05d}", "speed", float(i * n), annotator=f"{n}") for i in range(40) for n in range(60)]
try:
    with catalog.commit(author="w", message="too much") as change:
        change.add_labels(labels(rows), source="human")
except AmberError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [0, 1_000, 65_536])
def test_a_full_disk_leaves_the_catalog_unchanged(catalog: Catalog, lake: Server | None, limit: int) -> None:
    before = counts(catalog)
    printed, _ = start(FULL, str(catalog.home), str(min(limit, 1_000) if lake else limit)).communicate()
    assert "nothing of this commit was written" in printed
    assert len(printed.splitlines()) == 1
    assert counts(catalog) == before
    one_label(catalog)


def test_tasks_and_slices_are_declared_once(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="again") as change:
        change.add_tasks(TASKS)
        change.add_slice("night", "attr.night")
    assert counts(catalog)["task_event"] == len(TASKS)
    assert counts(catalog)["slice_event"] == 3
    other = TASKS[1].model_copy(update={"owner": "eve"})
    with (
        pytest.raises(BadInput, match="is already defined differently"),
        catalog.commit(author="ada", message="other") as change,
    ):
        change.add_tasks([other])


def test_every_error_is_an_amber_error() -> None:
    assert {error.__base__ for error in (BadInput, Busy, Damaged, Failed, NotFound)} == {AmberError}
