"""A catalog in one DuckDB file.

No connection is held: each unit of work opens the file and closes it, never across a person's time or a training run.
DuckDB's own lock does not wait, so `catalog.lock` makes units take turns: shared for reads, exclusive for commits.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import duckdb

from curation.catalog.arrow_query import quoted
from curation.catalog.backends.backend import ENVIRONMENT, Work, first_line, prepare
from curation.catalog.backends.journal import checkpoint, mend
from curation.errors import AmberError, Busy, Damaged, Failed, NotFound
from curation.files.atomic import remove_leftovers, whole
from curation.files.locks import locked

__all__ = ["DuckDBFile"]

STORAGE: Final = "v1.5.0"
"""The form of new files. DuckDB's default is that of 0.10, whose checkpoints write all tables' metadata anew: they cost
four times as much at 20M events."""

POLL: Final = 0.005
"""Seconds between two tries for the lock: a unit of work takes a few milliseconds."""

UNREADABLE: Final = ("Corrupt database file", "Could not read enough bytes")
"""What DuckDB says of a file that was altered, or cut off."""


class DuckDBFile:
    """`catalog.duckdb` in the folder `home`."""

    def __init__(self, home: Path, *, patience: float) -> None:
        self.home = home
        self.path = home / "catalog.duckdb"
        self.name = str(self.path)
        self.patience = patience
        self._idle: list[duckdb.DuckDBPyConnection] = []

    def exists(self) -> bool:
        """Whether the file is there."""
        return self.path.is_file()

    def create(self, fill: Work) -> None:
        """Make the file, unless it is there."""
        with self.turn(exclusive=True):
            if not self.path.exists():
                with self.rewritten() as connection:
                    fill(connection)

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file, open for reading."""
        with self.turn(exclusive=False), self.connect(read_only=True) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file, open for writing."""
        with self.turn(exclusive=True), self.connect(read_only=False) as connection:
            yield connection

    def compact(self, fold: Work) -> None:
        """Fold, and write the file anew without the space of what is gone: DuckDB does not give it back."""
        with self.turn(exclusive=True):
            with self.connect(read_only=False) as connection:
                fold(connection)
            with self.rewritten() as connection:
                connection.execute(f"ATTACH {quoted(self.name)} AS old (READ_ONLY)")
                connection.execute("COPY FROM DATABASE old TO new")

    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def close(self) -> None:
        """Let go of the memory of idle DuckDBs; no file is held between units of work."""
        self._idle.clear()

    @contextmanager
    def rewritten(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A new file, attached as `new` and in use, which takes the place of the old one at the end of the block.

        For who holds the turn. Failed when the disk does not take it; the old file is as it was then.
        """
        with whole(self.path) as part:
            try:
                with duckdb.connect() as connection:
                    connection.execute(f"ATTACH {quoted(str(part))} AS new (STORAGE_VERSION '{STORAGE}'); USE new")
                    yield prepare(connection)
                    connection.execute("CHECKPOINT new; USE memory; DETACH new")
            except ENVIRONMENT as error:
                raise self._failure(error, read_only=False) from error
            finally:
                part.with_name(f"{part.name}.wal").unlink(missing_ok=True)

    @contextmanager
    def turn(self, *, exclusive: bool) -> Iterator[None]:
        """Hold `catalog.lock`; Busy names the process that did not let go within `patience` seconds.

        Whoever is next holds `catalog.next` while it waits: else a process that commits in a loop would starve all
        others, for a lock that is tried for goes to whom it is freed by.
        """
        with locked(
            self.home / "catalog.lock",
            lambda holder: f"{self.name}: {holder} has held it for {self.patience:.1f} s; wait for it, or end it",
            shared=not exclusive,
            patience=self.patience,
            queue=self.home / "catalog.next",
            poll=POLL,
        ):
            if exclusive:
                self._remove_leftovers()
            yield

    @contextmanager
    def connect(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file, open, for who holds the turn."""
        if not self.exists():  # DuckDB would make an empty one
            raise NotFound(f"{self.name}: is gone since it was opened; open the workspace again")
        with self._instance(read_only=read_only) as instance:
            connection = self._attach(instance, read_only=read_only)
            try:
                yield prepare(connection)
            except ENVIRONMENT as error:
                raise self._failure(error, read_only=read_only) from error
            finally:
                connection.close()

    @contextmanager
    def _instance(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB that holds no file: to start one takes 8 ms, so that one that served well serves again."""
        try:
            instance = self._idle.pop()
        except IndexError:
            instance = self._started()
        tidy = False
        try:
            yield instance
            with suppress(duckdb.Error, Failed):  # what a full disk did not let it tidy up is tidied up by the next
                if not read_only and self.exists():  # a catalog that moved away leaves nothing to do
                    checkpoint(instance, self.path, "catalog")
                instance.execute("DETACH catalog")
                tidy = True
        finally:
            if tidy:
                self._idle.append(instance)
            else:
                instance.close()

    def _started(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB that never checkpoints of its own accord: `journal` must come first."""
        instance = duckdb.connect(config={"temp_directory": f"{self.name}.tmp"})
        instance.execute("PRAGMA disable_checkpoint_on_shutdown")
        instance.execute("SET GLOBAL wal_autocheckpoint = '1TB'")
        instance.execute("SET GLOBAL auto_checkpoint_skip_wal_threshold = 9223372036854775807")
        return instance

    def _attach(self, instance: duckdb.DuckDBPyConnection, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        connection = instance.cursor()
        try:
            mend(self.path)
            connection.execute(f"ATTACH {quoted(self.name)} AS catalog{' (READ_ONLY)' if read_only else ''}")
            connection.execute("USE catalog")
        except OSError as error:
            connection.close()
            raise Failed(
                f"{self.name}: cannot be mended ({error.strerror}); make it writable, and run again"
            ) from error
        except duckdb.Error as error:
            connection.close()
            reason = first_line(error)
            if isinstance(error, duckdb.IOException) and "Could not set lock" in reason:
                raise Busy(f"{self.name}: held outside Amber ({reason}); end that process") from error
            raise Damaged(f"{self.name}: cannot be opened ({reason}); restore a backup") from error
        return connection

    def _remove_leftovers(self) -> None:
        """Remove what killed processes had begun. Only we write the catalog now, so that its parts are all dead."""
        for part in self.home.glob(f"{self.path.name}.*.part*"):
            part.unlink(missing_ok=True)
        remove_leftovers(self.home.glob("*.part"))

    def _failure(self, error: duckdb.Error, *, read_only: bool) -> AmberError:
        reason = first_line(error)
        if any(part in reason for part in UNREADABLE):
            return Damaged(f"{self.name}: cannot be read ({reason}); restore a backup")
        if read_only:
            return Failed(f"{self.name}: cannot be read ({reason}); free memory or mend the disk")
        return Failed(f"{self.name}: nothing of this commit was written ({reason}); free space or mend the disk")
