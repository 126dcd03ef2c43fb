"""Copies of the whole history of a catalog, table by table, into an empty one."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import duckdb
import pyarrow as pa

from curation.catalog import current_labels
from curation.catalog.backends.backend import Backend, transaction
from curation.catalog.schema import GROWING
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, Damaged
from curation.files.progress import StageProgress

__all__ = ["KEPT", "Tables", "copy", "fill", "history"]

KEPT: Final = ("head", "annotator", *GROWING)
"""Tables that make up a history. The intervals are left out: they are derived from these."""

ROWS: Final = 250_000
"""Rows in memory at a time."""


Tables = Iterable[tuple[str, pa.RecordBatchReader]]
"""Tables by name; each is read to its end before the next one."""


@contextmanager
def copy(source: Backend, target: Backend, *, progress: StageProgress | None = None) -> Iterator[Snapshot]:
    """Copy all commits of `source` into `target`, which must be empty. No commit can land in `source` during the block.

    Yields the newest snapshot of `source`, whose commit and digest both now have.
    """
    with source.writing() as connection:
        now = Snapshot.at(connection, None)
        fill(target, history(connection, now.commit), now.counts(), now.digest, progress=progress)
        yield now


def history(connection: duckdb.DuckDBPyConnection, until: int) -> Iterator[tuple[str, pa.RecordBatchReader]]:
    """The tables of a catalog, as of a commit."""
    for table in KEPT:
        if table == "head":
            query = f"SELECT CAST({until} AS BIGINT) AS id"
        else:
            query = f"FROM {table} WHERE {GROWING.get(table, '0')} <= {until}"
        yield table, connection.execute(query).to_arrow_reader(ROWS)


def fill(
    target: Backend, tables: Tables, counts: Mapping[str, int], digest: str, *, progress: StageProgress | None = None
) -> None:
    """Write a history into an empty catalog, as a whole or not at all, and fold it.

    BadInput when the catalog is not empty; Damaged when the written rows do not match `counts` and `digest`.
    """
    with target.writing() as connection:
        with transaction(connection):
            _refuse_full(target, connection)
            for name, rows in tables:
                _append(connection, name, rows, counts.get(name, 0), progress or (lambda stage, done, total: None))
            written = Snapshot.at(connection, None)
            if (written.counts(), written.digest) != (dict(counts), digest):
                raise Damaged(
                    f"{target.name}: the rows do not match the digest of the history; nothing was kept, copy again"
                )
        with transaction(connection):
            current_labels.fold(connection)


def _append(
    connection: duckdb.DuckDBPyConnection, name: str, rows: pa.RecordBatchReader, total: int, progress: StageProgress
) -> None:
    if name == "head":
        connection.execute("DELETE FROM head")
    done = 0
    for batch in rows:
        connection.register("incoming", batch)
        connection.execute(f"INSERT INTO {name} BY NAME FROM incoming")
        connection.unregister("incoming")
        done += len(batch)
        progress(name, done, total)


def _refuse_full(target: Backend, connection: duckdb.DuckDBPyConnection) -> None:
    if connection.execute("SELECT 1 FROM head WHERE id <> 0").fetchall():
        raise BadInput(f"{target.name}: already holds commits; choose an empty catalog")
