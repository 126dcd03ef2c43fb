"""A connection and the commit at which it is read: what every query of a snapshot starts from."""

from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa

from curation.catalog.arrow_query import query_arrow
from curation.catalog.current_labels import attribute_at, labels_at
from curation.errors import NotFound

__all__ = ["View"]


class View:
    """Queries on `connection`, as of `commit`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, commit: int) -> None:
        self.connection = connection
        self.commit = commit

    def table(self, query: str, parameters: Any = None, **tables: pa.Table) -> pa.Table:
        """The result of a query, which may name `tables`."""
        return query_arrow(self.connection, query, parameters, **tables)

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The result of a query of few rows, as Python values."""
        return self.connection.execute(query, list(parameters)).fetchall()

    def attributes(self) -> dict[str, str]:
        """Types of attributes by name: text, number, flag, time or integer."""
        return dict(self.rows("SELECT name, type FROM attribute WHERE commit_id <= ? ORDER BY name", [self.commit]))

    def attribute_sql(self, name: str, type_: str = "") -> str:
        """SQL of the current values of one attribute: sample_id, value. NotFound when `type_` is not given and the
        catalog has no such attribute."""
        if not type_ and name not in (types := self.attributes()):
            raise NotFound(f"attribute {name!r}: the catalog has no such attribute; `amber coverage` lists them")
        return attribute_at(self.connection, self.commit, name, type_ or types[name])

    def labels_sql(self, task_ids: Sequence[int] | None = None) -> str:
        """SQL of the current labels of some tasks, or of all."""
        return labels_at(self.connection, self.commit, task_ids)
