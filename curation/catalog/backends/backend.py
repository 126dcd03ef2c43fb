"""The contract of a catalog's storage, one DuckDB file or DuckLake, and what both share."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final, Protocol

import duckdb

from curation.catalog import box_agreement

__all__ = ["ENVIRONMENT", "Backend", "Work", "detach", "first_line", "prepare", "transaction"]

ENVIRONMENT: Final = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.OutOfMemoryException,
    duckdb.TransactionException,
)
"""Errors of DuckDB that the machine causes, not a query."""

Work = Callable[[duckdb.DuckDBPyConnection], None]
"""A function that uses a connection."""


class Backend(Protocol):
    """Connections for units of work, which take turns; errors of the storage become AmberErrors.

    `name` is used in messages. A unit waits up to `patience` seconds for another; then Busy names the holder.
    """

    name: str
    patience: float

    def exists(self) -> bool:
        """Whether there is a catalog."""

    def create(self, fill: Work) -> None:
        """Make a catalog, whose tables `fill` writes, unless there is one; as a whole or not at all."""

    def reading(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection that only reads; other readers may run at the same time."""

    def reading_aside(self, *, threads: int) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """The same on at most so many threads, for long reads: commits do not wait until it ends."""

    def writing(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection that writes, one at a time; the caller begins and commits transactions."""

    def compact(self, fold: Work) -> None:
        """Run `fold`, and free the space of deleted rows."""

    def size(self) -> int:
        """Size of the storage in bytes."""

    def close(self) -> None:
        """Release what is held between units of work; the next one connects again."""


def prepare(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The connection, set up for the SQL of the catalog."""
    connection.execute("SET TimeZone = 'UTC'")
    # Results are fetched as a whole. With a buffer that can fill, a large UNION ALL deadlocks (duckdb#22215).
    connection.execute("SET streaming_buffer_size = '1TB'")
    box_agreement.register(connection)
    return connection


def detach(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Detach a file after the worker threads of the instance have ended; `SET threads` starts them again.

    A worker that purges the eviction queue while the file's block manager goes away ends in a segmentation fault
    (duckdb#20550, duckdb#20724; seen in 1.5.5). `SET threads = 1` joins all workers, and no other thread uses the
    instance, so none can purge.
    """
    connection.execute("SET threads = 1")
    connection.execute(f"DETACH {name}")


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit the block as a whole; an exception rolls it back."""
    connection.begin()
    try:
        yield
        connection.commit()
    except BaseException:
        with suppress(duckdb.TransactionException):  # a commit that failed has rolled back already
            connection.rollback()
        raise


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return str(error).strip().splitlines()[0]
