"""The catalog: a handle on one DuckDB file, and its units of work.

A handle holds no connection. `read()` and `commit()` connect for one unit of work, never across a person's time or a
training run. DuckDB's own lock does not wait, so `catalog.lock` makes units take turns: shared for reads, exclusive
for commits.
"""

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from curation.errors import AmberError, BadInput, Busy, Damaged, Failed, NotFound
from curation.files import remove_leftovers, whole
from curation.ledger import boxes, intervals, schema
from curation.ledger.change import Change
from curation.ledger.columns import quoted
from curation.ledger.snapshot import Snapshot

__all__ = ["Catalog"]


class Catalog:
    """The ledger of one workspace (`home`): what is known about which image, by whom, since when.

    >>> catalog = Catalog.create("amber-home")
    >>> with catalog.commit(author="ada", message="first tasks") as change:
    ...     change.add_tasks([...])
    >>> with catalog.read() as now:
    ...     now.labels("light_color")
    """

    def __init__(self, home: Path, *, patience: float = 30.0) -> None:
        self.home = home
        self.file = home / "catalog.duckdb"
        self.patience = patience

    @classmethod
    def create(cls, home: Path | str) -> "Catalog":
        """Make a workspace with an empty catalog, or open the one that is there."""
        catalog = cls(Path(home).resolve())
        try:
            catalog.home.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise BadInput(f"{home}: a workspace is a folder; choose another --home") from None
        with catalog._turn(exclusive=True):
            if not catalog.file.exists():
                catalog._write_schema()
        return catalog.checked()

    @classmethod
    def open(cls, home: Path | str) -> "Catalog":
        """A handle on the workspace `home`; NotFound when there is none."""
        catalog = cls(Path(home).resolve())
        if not catalog.file.is_file():
            raise NotFound(f"{home}: no Amber workspace is there; `amber init --home {home}` makes one")
        return catalog.checked()

    def checked(self) -> "Catalog":
        """This handle, once its file was found to be a catalog of the schema that this Amber knows."""
        with self._turn(exclusive=False), self._connect(read_only=True) as connection:
            try:
                found = connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
            except (duckdb.CatalogException, duckdb.BinderException):
                found = None
        if found is None:
            raise Damaged(f"{self.file}: not a catalog of Amber's; choose another --home")
        if int(found[0]) != schema.VERSION:
            raise BadInput(
                f"{self.file}: its schema is {found[0]}, this Amber knows {schema.VERSION}; use the Amber that made it"
            )
        return self

    @contextmanager
    def read(self, commit: int | None = None) -> Iterator[Snapshot]:
        """What was known at `commit` (default: now). The snapshot is valid inside the `with` block only."""
        with self._turn(exclusive=False), self._connect(read_only=True) as connection:
            yield Snapshot.at(connection, commit)

    @contextmanager
    def commit(self, *, author: str, message: str, batch: str | None = None) -> Iterator[Change]:
        """One atomic change. The same `batch` id again is a no-op; an exception leaves the catalog as it was."""
        if not author.strip():
            raise BadInput("author '': every commit has one; pass --author NAME or set AMBER_AUTHOR")
        with self._turn(exclusive=True), self._connect(read_only=False) as connection:
            connection.begin()
            try:
                change = Change.begin(connection, author=author, message=message, batch=batch or uuid.uuid4().hex)
                yield change
                change.finish()
                connection.commit()
            except BaseException:
                with suppress(duckdb.TransactionException):  # a commit that failed has rolled back already
                    connection.rollback()
                raise
            with suppress(duckdb.Error):  # the commit stands; a fold that found no room is tried after the next one
                if intervals.due(connection):
                    self._fold(connection)

    def compact(self) -> None:
        """Fold what came since into the intervals, and rewrite the file without the space of what is gone."""
        with self._turn(exclusive=True):
            with self._connect(read_only=False) as connection:
                self._fold(connection)
                connection.execute("CHECKPOINT")
            self._rewrite()

    def has(self, batch: str) -> bool:
        """Whether a commit with this batch id has landed."""
        with self.read() as now:
            return now.has(batch)

    def _write_schema(self) -> None:
        with whole(self.file) as part:
            try:
                with duckdb.connect(str(part)) as connection:
                    connection.execute(schema.DDL)
                    connection.execute("INSERT INTO meta VALUES ('schema', ?)", [str(schema.VERSION)])
                    connection.execute("INSERT INTO head VALUES (0); INSERT INTO folded VALUES (0)")
                    connection.execute("CHECKPOINT")
            except duckdb.Error as error:
                raise self._failure(error, read_only=False) from error
            finally:
                part.with_name(f"{part.name}.wal").unlink(missing_ok=True)

    def _fold(self, connection: duckdb.DuckDBPyConnection) -> None:
        connection.begin()
        intervals.fold(connection)
        connection.commit()

    def _rewrite(self) -> None:
        with whole(self.file) as part:
            try:
                with duckdb.connect() as connection:
                    connection.execute(f"ATTACH {quoted(str(self.file))} AS old (READ_ONLY)")
                    connection.execute(f"ATTACH {quoted(str(part))} AS new")
                    connection.execute("COPY FROM DATABASE old TO new")
                    connection.execute("DETACH new")
            except duckdb.Error as error:
                raise self._failure(error, read_only=False) from error
            finally:
                part.with_name(f"{part.name}.wal").unlink(missing_ok=True)

    @contextmanager
    def _connect(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            connection = duckdb.connect(str(self.file), read_only=read_only)
        except duckdb.IOException as error:
            if "Could not set lock" in str(error):
                raise Busy(f"{self.file}: held outside Amber ({_first_line(error)}); end that process") from error
            raise Damaged(f"{self.file}: cannot be opened ({_first_line(error)}); restore a backup") from error
        except duckdb.Error as error:
            raise Damaged(f"{self.file}: cannot be opened ({_first_line(error)}); restore a backup") from error
        try:
            connection.execute("SET TimeZone = 'UTC'")
            boxes.register(connection)
            yield connection
        except (
            duckdb.IOException,
            duckdb.FatalException,
            duckdb.OutOfMemoryException,
            duckdb.TransactionException,
        ) as error:
            raise self._failure(error, read_only=read_only) from error
        finally:
            connection.close()

    def _failure(self, error: duckdb.Error, *, read_only: bool) -> AmberError:
        reason = _first_line(error)
        if "Corrupt database file" in reason:
            return Damaged(f"{self.file}: cannot be read ({reason}); restore a backup")
        if read_only:
            return Failed(f"{self.file}: cannot be read ({reason}); free memory or mend the disk")
        return Failed(f"{self.file}: nothing of this commit was written ({reason}); free space or mend the disk")

    @contextmanager
    def _turn(self, *, exclusive: bool) -> Iterator[None]:
        """Hold `catalog.lock`; Busy names the process that did not let go within `patience` seconds.

        Whoever is next holds `catalog.next` while it waits: else a process that commits in a loop would starve all
        others, for a lock that is tried for goes to whom it is freed by.
        """
        deadline = time.monotonic() + self.patience
        with self._file("catalog.lock") as lock:
            with self._file("catalog.next") as turn:
                self._await(turn, lock, deadline, exclusive=True)
                self._await(lock, lock, deadline, exclusive=exclusive)
            if exclusive:
                with suppress(OSError):  # on a full disk; it only names the holder
                    os.pwrite(lock, f"{os.getpid():<20}".encode(), 0)
                self._remove_leftovers()
            yield

    def _remove_leftovers(self) -> None:
        """Remove what killed processes had begun. Only we write the catalog now, so that its parts are all dead."""
        for part in self.home.glob(f"{self.file.name}.*.part*"):
            part.unlink(missing_ok=True)
        remove_leftovers(self.home.glob("*.part"))

    @contextmanager
    def _file(self, name: str) -> Iterator[int]:
        descriptor = os.open(self.home / name, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _await(self, descriptor: int, lock: int, deadline: float, *, exclusive: bool) -> None:
        while not _try_lock(descriptor, exclusive=exclusive):
            if time.monotonic() > deadline:
                holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
                raise Busy(
                    f"{self.file}: process {holder} has held it for {self.patience:.1f} s; wait for it, or end it"
                )
            time.sleep(0.005)


def _try_lock(descriptor: int, *, exclusive: bool) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
