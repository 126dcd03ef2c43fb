"""Appends the events of one commit to the catalog."""

import hashlib
from typing import Any, Final

import duckdb
import pyarrow as pa

from curation.catalog.arrow_query import query_arrow, scalar
from curation.errors import BadInput
from curation.files.digest import digest

__all__ = ["ADDITIONS", "Writer", "refuse"]


ADDITIONS: Final = {"label_event": ("looked", "instructions")}
"""Columns that a table of events got after its first digests."""


class Writer:
    """Appends events of the commit `id` and hashes them. A `repeated` commit has landed before: nothing is appended."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, *, id: int, repeated: bool) -> None:
        self.connection = connection
        self.id = id
        self.repeated = repeated
        self._content = hashlib.sha256()

    def sql(self, query: str, parameters: list[Any] | None = None, **tables: pa.Table) -> pa.Table:
        """The result of a query, which may name `tables`."""
        return query_arrow(self.connection, query, parameters, **tables)

    def number(self, query: str, parameters: list[Any] | None = None) -> int:
        """The result of a query that returns one number."""
        return int(scalar(self.connection, query, parameters))

    def append(self, table: str, rows: pa.Table, *, aside: str = "") -> None:
        """Append rows with the commit's id; the column `aside` is left out of the digest, and so is an empty one of
        `ADDITIONS`: histories of before it keep their digests."""
        if self.repeated or not len(rows):
            return
        hashed = rows.drop_columns([aside]) if aside else rows
        self.hash(digest(hashed.drop_columns(_empty_additions(table, hashed)), [table]))
        self.sql(
            f"INSERT INTO {table} BY NAME SELECT *, CAST(? AS BIGINT) AS commit_id FROM incoming",
            [self.id],
            incoming=rows,
        )

    def append_row(self, table: str, *values: Any) -> None:
        """Append one row; its first column is the commit's id."""
        marks = ", ".join("?" for _ in (self.id, *values))
        self.connection.execute(f"INSERT INTO {table} VALUES ({marks})", [self.id, *values])

    def hash(self, *texts: str) -> None:
        """Add texts to the digest."""
        for text in texts:
            self._content.update(f"{len(text)}:{text}".encode())

    @property
    def digest(self) -> str:
        """Hex sha256 of everything hashed so far."""
        return self._content.hexdigest()


def _empty_additions(table: str, rows: pa.Table) -> list[str]:
    return [
        name for name in ADDITIONS.get(table, ())
        if name in rows.column_names and rows[name].null_count == len(rows)
    ]  # fmt: skip


def refuse(offenders: pa.Table, message: str) -> None:
    """BadInput if there are `offenders`; `message` formats the columns of the first one by number."""
    if len(offenders):
        raise BadInput(message.format(*offenders.slice(0, 1).to_pylist()[0].values()))
