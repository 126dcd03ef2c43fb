"""Verification of a catalog: its chain of commits, keys, references, intervals and files."""

from collections.abc import Iterator
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Final

import duckdb
import pyarrow as pa

from curation.catalog import current_labels
from curation.catalog.admin.copying import fill, history
from curation.catalog.catalog import Catalog
from curation.catalog.held_back_labels import fault_in_held_back
from curation.catalog.schema import GROWING
from curation.catalog.snapshot import Snapshot
from curation.files.digest import digest
from curation.files.progress import StageProgress
from curation.files.read_back import sha256_of

__all__ = ["Check", "verify"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One property of the catalog; `fault` is what violates it, or empty."""

    name: str
    fault: str


def _dangling(table: str, column: str, home: str, name: str = "") -> str:
    """SQL of a row of `table` whose `column` is missing in the table `home`, where the column is called `name`."""
    return (
        f"SELECT '{table} names {column} ' || {column} || ', which is not in {home}' FROM {table} "
        f"WHERE {column} NOT IN (SELECT {name or column} FROM {home}) LIMIT 1"
    )


def _twice(table: str, *columns: str) -> str:
    """SQL of a value of `columns` that two rows of `table` share, though it must be unique."""
    key = ", ".join(columns)
    return (
        f"SELECT '{table} holds ({key}) twice: ' || concat_ws(', ', {key}) FROM {table} "
        f"GROUP BY {key} HAVING count(*) > 1 LIMIT 1"
    )


ABOUT_SAMPLES: Final = ("label_event", "attribute_event", "request_event", "answer_event")

QUERIES: Final = {
    "chain": [
        "SELECT 'head is ' || head.id || ', the newest commit is ' || coalesce(max(commits.id), 0) FROM head "
        "LEFT JOIN commits ON true GROUP BY head.id HAVING head.id <> coalesce(max(commits.id), 0)",
        "SELECT 'commit ' || id || ' follows ' || parent FROM commits WHERE parent <> id - 1 OR id < 1 LIMIT 1",
        "SELECT 'a commit is missing' FROM commits HAVING count(*) <> coalesce(max(id), 0)",
        _twice("commits", "id"),
        _twice("commits", "batch"),
        _twice("commits", "digest"),
    ],
    "keys": [
        _twice("sample", "sample_id"),
        _twice("sample", "key"),
        "SELECT 'a forgotten key is a sample again: ' || key FROM sample "
        "WHERE sha256(key) IN (SELECT key_sha256 FROM forgotten) LIMIT 1",
        _twice("annotator", "annotator_id"),
        _twice("annotator", "name", "source"),
        _twice("label_event", "commit_id", "sample_id", "task_id", "annotator_id"),
        _twice("attribute_event", "commit_id", "sample_id", "name"),
    ],
    "references": [
        *(_dangling(table, column, "commits", "id") for table, column in GROWING.items() if table != "commits"),
        *(_dangling(table, "sample_id", "sample") for table in ABOUT_SAMPLES),
        *(_dangling(table, "task_id", "task_event") for table in ABOUT_SAMPLES if table != "attribute_event"),
        _dangling("label_event", "annotator_id", "annotator"),
        _dangling("attribute_event", "name", "attribute"),
        _dangling("slice_error", "run", "run_event"),
    ],
}  # fmt: skip
"""The queries of each check; a row in a result is a fault."""

SORTED: Final = {
    "label_interval": "task_id, sample_id, valid_from",
    "attribute_interval": "name, sample_id, valid_from",
}


def verify(catalog: Catalog, *, progress: StageProgress | None = None) -> Iterator[Check]:
    """Check one property after the other. The intervals are compared with those of a fresh copy of the history, made in
    a temporary folder of the workspace.

    Damaged when the catalog cannot be read at all.
    """
    with catalog.backend.reading() as connection:
        for name, queries in QUERIES.items():
            faults = (connection.execute(query).fetchall() for query in queries)
            yield Check(name=name, fault=next((str(rows[0][0]) for rows in faults if rows), ""))
        yield Check(name="intervals", fault=_intervals(catalog, connection, progress))
        now = Snapshot.at(connection, None)
        yield Check(name="runs", fault=_runs(catalog, now, progress))
        yield Check(name="oracle", fault=fault_in_held_back(catalog.home, now.samples()["key"].to_pylist()))


def _intervals(catalog: Catalog, connection: duckdb.DuckDBPyConnection, progress: StageProgress | None) -> str:
    with TemporaryDirectory(prefix="verify-", dir=catalog.home) as folder:
        fresh = Catalog.create(folder)
        then = Snapshot.at(connection, current_labels.folded(connection))
        fill(fresh.backend, history(connection, then.commit), then.counts(), then.digest, progress=progress)
        with fresh.backend.reading() as other:
            for table, order in SORTED.items():
                query = f"FROM {table} ORDER BY {order}"
                if _content(connection, query) != _content(other, query):
                    return f"{table} does not follow from the events"
    return ""


def _content(connection: duckdb.DuckDBPyConnection, query: str) -> list[str]:
    """A digest of every million rows, so that memory never holds two such tables."""
    reader = connection.execute(query).to_arrow_reader(1_000_000)
    return [digest(pa.Table.from_batches([batch])) for batch in reader]


def _runs(catalog: Catalog, now: Snapshot, progress: StageProgress | None) -> str:
    newest = {row["run"]: row for row in now.runs().to_pylist()}
    for done, (run, row) in enumerate(newest.items()):
        path = catalog.home / row["predictions"]
        if not path.is_file():
            return f"{path} is missing, run {run} has no predictions; evaluate it again"
        if sha256_of(path) != row["sha256"]:
            return f"{path} differs from what run {run} wrote; evaluate it again"
        if progress:
            progress("runs", done + 1, len(newest))
    return ""
