"""Many writers at once, on one file and on DuckLake: no commit is lost or doubled, and a batch id lands once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.homes import label, labels, make_home
from support.paths import python_environment
from support.postgres import Server

from curation import Catalog
from curation.catalog.admin.verification import verify

WRITER = """
import sys
from curation import Catalog
from support.homes import label, labels
catalog, me = Catalog.open(sys.argv[1]), sys.argv[2]
catalog.backend.patience = 300.0
for number in range(int(sys.argv[3])):
    for batch in (f"{me}-{number}", f"all-{number}"):
        with catalog.commit(author=me, message="m", batch=batch) as change:
            rows = [label(f"pictures/{i:05d}", "car", True, batch) for i in range(20)]
            change.add_labels(labels(rows), source="human")
            print(change.id, batch, flush=True)
"""


def written(catalog: Catalog, writers: int, rounds: int) -> set[tuple[int, str]]:
    """What `writers` processes say that they have committed, at once: (commit, batch)."""
    environment = python_environment(Path(__file__).parent)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(catalog.home), f"w{number}", str(rounds)],
            stdout=subprocess.PIPE, text=True, env=environment,
        ) for number in range(writers)
    ]  # fmt: skip
    commits = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * writers
    return {(int(id_), batch) for words in commits for id_, batch in zip(words[::2], words[1::2], strict=True)}


def check_writers(catalog: Catalog, writers: int, rounds: int) -> None:
    commits = written(catalog, writers, rounds)
    with catalog.read() as now:
        landed = [(row["id"], row["batch"]) for row in now.log().to_pylist()][:-1]
        labels = now.counts()["label_event"] - now.earlier(1).counts()["label_event"]
    assert len(landed) == len(set(landed)) == (writers + 1) * rounds
    assert commits == set(landed)
    assert labels == 20 * len(landed)
    assert [check.fault for check in verify(catalog) if check.fault] == []


@pytest.fixture
def catalog(tmp_path: Path, lake: Server | None) -> Catalog:
    return make_home(tmp_path, samples=20, lake=lake)


def test_writers_side_by_side(catalog: Catalog, lake: Server | None) -> None:
    check_writers(catalog, 8 if lake else 4, 4)


def test_many_threads_share_one_catalog(tmp_path: Path) -> None:
    catalog = make_home(tmp_path, samples=40)

    def work(turn: int) -> int:
        if turn % 8 == 0:
            with catalog.commit(author=f"a{turn}", message="thread") as change:
                change.add_labels(labels([label("pictures/00001", "car", True, f"a{turn}")]), source="human")
        with catalog.read() as now:
            return now.counts()["sample"]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(200))) == {40}
    with catalog.read() as now:
        assert now.commit == 26


@pytest.mark.soak
def test_writers_side_by_side_for_long(catalog: Catalog, lake: Server | None) -> None:
    check_writers(catalog, 8 if lake else 4, 60)
