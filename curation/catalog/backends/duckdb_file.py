"""A catalog in one DuckDB file.

No connection stays open: each unit of work opens the file and closes it, so neither a waiting user nor a training run
blocks others. DuckDB's own lock does not wait, so `catalog.lock` makes units take turns: shared for reads, exclusive
for commits.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import Final

import duckdb

from curation.catalog.arrow_query import quoted, scalar
from curation.catalog.backends.backend import ENVIRONMENT, Work, detach, first_line, prepare
from curation.catalog.backends.journal import checkpoint, undo_killed_checkpoint
from curation.errors import AmberError, Busy, Damaged, Failed, NotFound
from curation.files.atomic import remove_leftovers, whole
from curation.files.locks import locked

__all__ = ["DuckDBFile"]

STORAGE: Final = "v1.5.0"
"""Storage version of new files. DuckDB's default is that of 0.10, whose checkpoints rewrite the metadata of all tables:
at 20M events they cost four times as much."""

POLL: Final = 0.005
"""Seconds between two tries for the lock: a unit of work takes a few milliseconds."""

UNREADABLE: Final = ("Corrupt database file", "Could not read enough bytes")
"""Messages of DuckDB about a file that was altered or truncated."""


class DuckDBFile:
    """`catalog.duckdb` in the folder `home`."""

    def __init__(self, home: Path, *, patience: float) -> None:
        self.home = home
        self.path = home / "catalog.duckdb"
        self.name = str(self.path)
        self.patience = patience
        self._idle: list[tuple[duckdb.DuckDBPyConnection, int]] = []
        """Instances without a file and without worker threads, each with the number of threads that it had."""

    def exists(self) -> bool:
        """Whether the file exists."""
        return self.path.is_file()

    def create(self, fill: Work) -> None:
        """Make the file unless it exists."""
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
    def reading_aside(self, *, threads: int) -> Iterator[duckdb.DuckDBPyConnection]:
        """A copy of the file as it is now, open for reading on so many threads: commits wait only while it is made.

        The copy has no name once it is open, so its space is free when the block, or the process, ends.
        """
        with self._aside(threads) as instance:
            with self.turn(exclusive=False):
                connection = self._copied(instance)
            try:
                yield prepare(connection)
                with suppress(duckdb.Error):
                    connection.close()
                    detach(instance, "catalog")
            except ENVIRONMENT as error:
                raise self._failure(error, read_only=True) from error

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file, open for writing."""
        with self.turn(exclusive=True), self.connect(read_only=False) as connection:
            yield connection

    def compact(self, fold: Work) -> None:
        """Fold, and rewrite the file: DuckDB itself never returns the space of deleted rows."""
        with self.turn(exclusive=True):
            with self.connect(read_only=False) as connection:
                fold(connection)
            with self.rewritten() as connection:
                connection.execute(f"ATTACH {quoted(self.name)} AS old (READ_ONLY)")
                connection.execute("COPY FROM DATABASE old TO new")
                detach(connection, "old")

    def size(self) -> int:
        """Size of the file in bytes."""
        return self.path.stat().st_size

    def close(self) -> None:
        """Release the memory of idle DuckDB instances; no file is open between units of work."""
        self._idle.clear()

    @contextmanager
    def rewritten(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A new file, attached as `new` and in use, which replaces the old one when the block ends.

        The caller holds the lock. Failed when the disk refuses the write; then the old file is unchanged.
        """
        with whole(self.path) as part:
            try:
                with duckdb.connect() as connection:
                    connection.execute(f"ATTACH {quoted(str(part))} AS new (STORAGE_VERSION '{STORAGE}'); USE new")
                    yield prepare(connection)
                    connection.execute("CHECKPOINT new; USE memory")
                    detach(connection, "new")
            except ENVIRONMENT as error:
                raise self._failure(error, read_only=False) from error
            finally:
                part.with_name(f"{part.name}.wal").unlink(missing_ok=True)

    @contextmanager
    def turn(self, *, exclusive: bool) -> Iterator[None]:
        """Hold `catalog.lock`; Busy names the process that did not release it within `patience` seconds.

        The next process holds `catalog.next` while it waits. Otherwise a process that commits in a loop would starve
        all others: it would take the lock back before anybody else tries.
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
        """A connection to the file, for a caller that holds the lock."""
        if not self.exists():  # DuckDB would make an empty one
            raise NotFound(f"{self.name}: was removed or moved after it was opened; open the workspace again")
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
        """A DuckDB instance without a file. Starting one takes 8 ms, so instances that ended well are used again.

        Only this unit of work uses the instance.
        """
        try:
            instance, threads = self._idle.pop()
            instance.execute(f"SET threads = {threads}")
        except IndexError:
            instance = self._started()
            threads = int(scalar(instance, "SELECT current_setting('threads')"))
        clean = False
        try:
            yield instance
            with suppress(duckdb.Error, Failed):  # on a full disk the next unit of work cleans up
                if not read_only and self.exists():  # nothing to do once the catalog has moved
                    checkpoint(instance, self.path, "catalog")
                detach(instance, "catalog")
                clean = True
        finally:
            if clean:
                self._idle.append((instance, threads))
            else:
                instance.close()

    def _started(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB instance that never checkpoints by itself: `journal` must come first."""
        instance = duckdb.connect(config={"temp_directory": f"{self.name}.tmp"})
        instance.execute("PRAGMA disable_checkpoint_on_shutdown")
        instance.execute("SET GLOBAL wal_autocheckpoint = '1TB'")
        instance.execute("SET GLOBAL auto_checkpoint_skip_wal_threshold = 9223372036854775807")
        instance.execute("SET GLOBAL parquet_metadata_cache = true")  # of predictions; a changed file is read again
        return instance

    def _attach(
        self, instance: duckdb.DuckDBPyConnection, *, read_only: bool, path: Path | None = None
    ) -> duckdb.DuckDBPyConnection:
        """A connection to the file, or to a copy at `path`."""
        connection = instance.cursor()
        try:
            if path is None:
                undo_killed_checkpoint(self.path)
            connection.execute(
                f"ATTACH {quoted(str(path or self.path))} AS catalog{' (READ_ONLY)' if read_only else ''}"
            )
            connection.execute("USE catalog")
        except OSError as error:
            connection.close()
            raise Failed(
                f"{self.name}: cannot be repaired ({error.strerror}); make it writable, then run the same again"
            ) from error
        except duckdb.Error as error:
            connection.close()
            reason = first_line(error)
            if isinstance(error, duckdb.IOException) and "Could not set lock" in reason:
                raise Busy(f"{self.name}: is held outside Amber ({reason}); end that process") from error
            raise Damaged(f"{self.name}: cannot be opened ({reason}); restore a backup") from error
        return connection

    @contextmanager
    def _aside(self, threads: int) -> Iterator[duckdb.DuckDBPyConnection]:
        """An instance of its own, whose memory is returned when the block ends."""
        instance = self._started()
        try:
            instance.execute(f"SET threads = {threads}")
            yield instance
        finally:
            instance.close()

    def _copied(self, instance: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        """A connection to a copy of the file, which is attached and loses its name; the caller holds the lock."""
        if not self.exists():
            raise NotFound(f"{self.name}: was removed or moved after it was opened; open the workspace again")
        undo_killed_checkpoint(self.path)
        try:
            handle, part = mkstemp(prefix=f"{self.path.name}.", suffix=".part", dir=self.home)
            os.close(handle)
            log, part_log = (Path(f"{path}.wal") for path in (self.path, part))
            try:
                shutil.copyfile(self.path, part)
                if log.exists():  # of a writer that was killed
                    shutil.copyfile(log, part_log)
                return self._attach(instance, read_only=True, path=Path(part))
            finally:
                part_log.unlink(missing_ok=True)
                Path(part).unlink(missing_ok=True)
        except OSError as error:
            raise Failed(f"{self.name}: could not be copied ({error.strerror}); free space or fix the disk") from error

    def _remove_leftovers(self) -> None:
        """Remove temporary files of killed processes: only this process writes the catalog now, so none is in use."""
        for part in self.home.glob(f"{self.path.name}.*.part*"):
            part.unlink(missing_ok=True)
        remove_leftovers(self.home.glob("*.part"))

    def _failure(self, error: duckdb.Error, *, read_only: bool) -> AmberError:
        reason = first_line(error)
        if any(part in reason for part in UNREADABLE):
            return Damaged(f"{self.name}: cannot be read ({reason}); restore a backup")
        if read_only:
            return Failed(f"{self.name}: cannot be read ({reason}); free memory or fix the disk")
        return Failed(f"{self.name}: nothing of this commit was written ({reason}); free space or fix the disk")
