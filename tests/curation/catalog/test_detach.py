"""No worker thread of DuckDB is left when a file is detached: one that purges its eviction queue then would crash."""

import re
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

import curation
from curation.catalog.admin.migrations import migrate
from curation.catalog.backends import duckdb_file
from curation.catalog.backends.backend import detach
from curation.catalog.catalog import Catalog

PARALLEL = "SELECT count(DISTINCT i % 1000) FROM range(3_000_000) t(i)"


def threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def read(catalog: Catalog) -> None:
    with catalog.read() as now:
        now.view.rows("SET GLOBAL threads = 8")
        now.view.rows(PARALLEL)


def commit(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="m") as change:
        change.now.view.rows(PARALLEL)


WORK = {"read": read, "commit": commit, "compact": Catalog.compact, "migrate": lambda catalog: migrate(catalog.home)}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_workers_end_before_detach(
    work: Callable[[Catalog], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog.create(tmp_path)
    before = threads()
    seen = []

    def watched(connection: duckdb.DuckDBPyConnection, name: str) -> None:
        detach(connection, name)
        seen.append(threads())

    monkeypatch.setattr(duckdb_file, "detach", watched)
    for _ in range(3):
        work(catalog)
    assert seen
    assert set(seen) == {before}


def test_every_unit_of_work_has_its_threads(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path)
    for _ in range(3):
        with catalog.read() as now:
            assert now.view.rows(
                "SELECT current_setting('threads') > 1 OR current_setting('threads') = ?",
                [duckdb.connect().execute("SELECT current_setting('threads')").fetchall()[0][0]],
            )[0][0]


def test_nothing_else_detaches() -> None:
    sources = sorted(Path(curation.__file__).parent.rglob("*.py"))
    found = [path.name for path in sources for _ in re.findall(r"DETACH \{?\w", path.read_text())]
    assert found == ["backend.py"]
