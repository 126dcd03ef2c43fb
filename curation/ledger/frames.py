"""Arrow tables as tables of a query."""

from typing import Any

import duckdb
import pyarrow as pa

__all__ = ["over"]


def over(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: list[Any] | None = None, **tables: pa.Table
) -> pa.Table:
    """What `query` gives where it may name `tables`, which are gone again afterwards."""
    for name, table in tables.items():
        connection.register(name, table)
    try:
        return connection.execute(query, parameters or []).to_arrow_table()
    finally:
        for name in tables:
            connection.unregister(name)
