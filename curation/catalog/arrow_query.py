"""Queries over Arrow tables, and queries of one row."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from curation.errors import BadInput

__all__ = ["first", "limited", "query_arrow", "quoted", "scalar"]

ROW_GROUP = 122_880
"""Rows in one row group of DuckDB."""


def query_arrow(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: list[Any] | None = None, **tables: pa.Table
) -> pa.Table:
    """The result of `query`, which may name `tables`; they are registered only for this call.

    DuckDB reads each batch on one thread, so batches are cut to the size of a row group.
    """
    for name, table in tables.items():
        connection.register(name, pa.Table.from_batches(table.to_batches(ROW_GROUP), table.schema))
    try:
        return connection.execute(query, parameters or []).to_arrow_table()
    finally:
        for name in tables:
            connection.unregister(name)


def first(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: list[Any] | None = None
) -> tuple[Any, ...] | None:
    """The first row of a query of few rows, or None. Fetches all rows: DuckDB 2 is blocked until it does."""
    rows = connection.execute(query, parameters or []).fetchall()
    return rows[0] if rows else None


def scalar(connection: duckdb.DuckDBPyConnection, query: str, parameters: list[Any] | None = None) -> Any:
    """The value of a query with one row and one column."""
    return connection.execute(query, parameters or []).fetchall()[0][0]


@contextmanager
def limited(connection: duckdb.DuckDBPyConnection, seconds: float, what: str) -> Iterator[None]:
    """Interrupt the queries of the block after `seconds`; then BadInput names `what` took so long.

    DuckDB looks for an interrupt after every 2,048 rows of an operator.
    """
    fired = threading.Event()

    def interrupt() -> None:
        fired.set()
        connection.interrupt()

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (duckdb.Error, RuntimeError):
        if fired.is_set():
            raise BadInput(f"{what}: ran longer than {seconds:g} s and was ended; write it simpler") from None
        raise
    finally:
        timer.cancel()


def quoted(text: str) -> str:
    """`text` as an SQL literal.

    >>> quoted("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"
