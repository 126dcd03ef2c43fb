"""A connection and the commit at which it is read: what every query of a snapshot starts from."""

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from curation.arrays import Ints
from curation.catalog.arrow_query import query_arrow
from curation.catalog.current_labels import attribute_at, labels_at
from curation.errors import NotFound

__all__ = ["View"]


class View:
    """Queries on `connection`, as of `commit`. `within` is a condition on `sample_id`: other samples are left out."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, commit: int, within: str = "true") -> None:
        self.connection = connection
        self.commit = commit
        self.within = within

    def between(self, after: int, upto: int) -> "View":
        """The same view of the samples with ids above `after` up to `upto` only."""
        return View(self.connection, self.commit, f"sample_id > {after} AND sample_id <= {upto}")

    def of(self, ids: Ints) -> "View":
        """The same view of the samples with these ids only, sorted: for a few, since SQL names each."""
        listed = ", ".join(map(str, ids.tolist())) or "NULL"
        low, high = (int(ids[0]), int(ids[-1])) if len(ids) else (0, -1)
        within = f"sample_id >= {low} AND sample_id <= {high} AND sample_id IN ({listed})"
        return View(self.connection, self.commit, within)

    def span(self) -> tuple[str, str] | None:
        """The first and the last key, by name, where samples are left out; None where none are, or all."""
        if self.within == "true":
            return None
        ((first, last),) = self.rows(f"SELECT min(key), max(key) FROM ({self.samples_sql})")
        return None if first is None else (str(first), str(last))

    @property
    def samples_sql(self) -> str:
        """SQL of the rows of `sample`."""
        return f"SELECT * FROM sample WHERE commit_id <= {self.commit} AND {self.within}"

    def table(self, query: str, parameters: Any = None, **tables: pa.Table) -> pa.Table:
        """The result of a query, which may name `tables`."""
        return query_arrow(self.connection, query, parameters, **tables)

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The result of a query of few rows, as Python values."""
        return self.connection.execute(query, list(parameters)).fetchall()

    def first_ids(self, query: str, limit: int) -> Ints:
        """The first `limit` ids of samples of a query, sorted."""
        found = self.table(f"SELECT sample_id FROM ({query}) ORDER BY sample_id LIMIT {limit}")
        return np.asarray(found["sample_id"].to_numpy(), np.int64)

    def attributes(self) -> dict[str, str]:
        """Types of attributes by name: text, number, flag, time or integer."""
        return dict(self.rows("SELECT name, type FROM attribute WHERE commit_id <= ? ORDER BY name", [self.commit]))

    def attribute_sql(self, name: str, type_: str = "") -> str:
        """SQL of the current values of one attribute: sample_id, value. NotFound when `type_` is not given and the
        catalog has no such attribute."""
        if not type_ and name not in (types := self.attributes()):
            raise NotFound(f"attribute {name!r}: the catalog has no such attribute; `amber coverage` lists them")
        return attribute_at(self.connection, self.commit, name, type_ or types[name], self.within)

    def labels_sql(self, task_ids: Sequence[int] | None = None) -> str:
        """SQL of the current labels of some tasks, or of all."""
        return labels_at(self.connection, self.commit, task_ids, self.within)
