"""Where a catalog lies: one DuckDB file, or DuckLake. What both owe to a unit of work stands here."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final, Protocol

import duckdb

from curation.catalog import box_agreement

__all__ = ["ENVIRONMENT", "Backend", "Work", "first_line", "prepare", "transaction"]

ENVIRONMENT: Final = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.OutOfMemoryException,
    duckdb.TransactionException,
)
"""What DuckDB raises for the machine's sake, rather than for a query's."""

Work = Callable[[duckdb.DuckDBPyConnection], None]
"""What is done with a connection."""


class Backend(Protocol):
    """How to connect for one unit of work, in turn, and what an error means.

    `name` is what messages call it. Units wait for each other for `patience` seconds; then Busy says for whom.
    """

    name: str
    patience: float

    def exists(self) -> bool:
        """Whether a catalog is there."""

    def create(self, fill: Work) -> None:
        """Make an empty catalog and let `fill` write its tables, unless one is there; whole, or not at all."""

    def reading(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection that only reads, beside other readers."""

    def writing(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection that writes, one at a time; begin and commit are the caller's."""

    def compact(self, fold: Work) -> None:
        """Let `fold` finish the tables, and give back the space of what is gone."""

    def size(self) -> int:
        """Bytes of what is kept."""

    def close(self) -> None:
        """Let go of what is held between units of work; the next one connects anew."""


def prepare(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """A connection on which the ledger's SQL runs."""
    connection.execute("SET TimeZone = 'UTC'")
    # Results are taken whole. With a buffer that fills up, a large UNION ALL waits for itself for ever (duckdb#22215).
    connection.execute("SET streaming_buffer_size = '1TB'")
    box_agreement.register(connection)
    return connection


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All of the block, or nothing."""
    connection.begin()
    try:
        yield
        connection.commit()
    except BaseException:
        with suppress(duckdb.TransactionException):  # a commit that failed has rolled back already
            connection.rollback()
        raise


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return str(error).strip().splitlines()[0]
