"""Arrow tables as tables of a query, and queries of one row."""

from typing import Any

import duckdb
import pyarrow as pa

__all__ = ["first", "over", "quoted", "scalar"]

ROW_GROUP = 122_880
"""Rows of DuckDB's row groups."""


def over(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: list[Any] | None = None, **tables: pa.Table
) -> pa.Table:
    """What `query` gives where it may name `tables`, which are gone again afterwards.

    DuckDB reads a batch on one thread and writes a row group from one: larger batches are cut to that size.
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
    """The first row of a query of few rows, or None. From 2.0 on DuckDB takes no other work while rows are left."""
    rows = connection.execute(query, parameters or []).fetchall()
    return rows[0] if rows else None


def scalar(connection: duckdb.DuckDBPyConnection, query: str, parameters: list[Any] | None = None) -> Any:
    """The one value of a query that has one."""
    return connection.execute(query, parameters or []).fetchall()[0][0]


def quoted(text: str) -> str:
    """`text` as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
