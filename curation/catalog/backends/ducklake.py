"""A catalog on DuckLake: its tables are Parquet files in a folder or object store, listed by a PostgreSQL database.

Attaching takes up to half a second, so the connection stays open and each unit of work gets a cursor of it. Readers and
writers do not block each other. Writers take turns with an advisory lock of the database, which is a fair queue and is
released when its holder dies; DuckLake by itself would let them collide at the end of their work, too late to repeat
it. Readers share a second lock, so that compaction deletes no file that is being read.
"""

import hashlib
import importlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import duckdb

from curation.catalog.arrow_query import quoted
from curation.catalog.backends.backend import ENVIRONMENT, Work, first_line, prepare
from curation.errors import AmberError, BadInput, Busy, Damaged, Failed, not_installed

__all__ = ["Address", "DuckLake"]

EXTENSIONS: Final = ("ducklake", "postgres_scanner")  # in this order: the second one links to what the first one loads

WRITERS: Final = "writers"
FILES: Final = "files"

UNREADABLE: Final = ("No magic bytes", "Cannot open file", "Could not read", "No files found", "TProtocolException",
                     "Invalid parquet", "Invalid footer", "corrupt", "Failed to read Parquet",
                     "too small to be a Parquet")  # fmt: skip
"""Messages of DuckDB about a missing or damaged Parquet file."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """The parts of `postgresql://USER@HOST:PORT/DATABASE?data=FOLDER&schema=NAME`.

    `server` is a libpq URL, `data` an absolute folder or the URL of object storage, `schema` the database schema that
    lists the files (default: amber). A password is refused: workspaces are copied and shown to others.

    >>> Address.parse("postgresql://ann@db/team?data=/srv/team").schema
    'amber'
    """

    server: str
    data: str
    schema: str

    @classmethod
    def parse(cls, url: str) -> "Address":
        """The parts of `url`; BadInput when one is missing or invalid."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        data, schema = options.pop("data", ""), options.pop("schema", "amber")
        if parts.scheme not in ("postgresql", "postgres"):
            raise BadInput(f"catalog {url!r}: must be postgresql://USER@HOST/DATABASE?data=FOLDER; correct it")
        if parts.password or "password" in options:
            bare = url.replace(parts.password or options["password"], "...")
            raise BadInput(f"catalog {bare!r}: must not contain a password; put it into PGPASSWORD or ~/.pgpass")
        if "://" not in data and not Path(data).is_absolute():
            raise BadInput(f"catalog {url!r}: data={data!r} must be an absolute folder or s3://BUCKET/...; correct it")
        if not schema.isidentifier():
            raise BadInput(f"catalog {url!r}: schema={schema!r} must be of letters, digits and _; choose another")
        query = f"?{urlencode(options)}" if options else ""
        server = f"postgresql://{parts.netloc}{parts.path}{query}"
        return cls(server=server, data=data, schema=schema)


class DuckLake:
    """The catalog at `url` (see `Address`)."""

    def __init__(self, url: str, *, patience: float) -> None:
        self.address = Address.parse(url)
        self.name = url
        self.patience = patience
        self._guard = threading.Lock()
        self._held: duckdb.DuckDBPyConnection | None = None

    def exists(self) -> bool:
        """Whether the database lists a catalog under this schema."""
        table = f"{self.address.schema}.ducklake_metadata"
        with self._database() as database:
            return database.execute("SELECT to_regclass(%s)", [table]).fetchone()[0] is not None

    def create(self, fill: Work) -> None:
        """Make an empty catalog unless there is one."""
        if "://" not in self.address.data:
            Path(self.address.data).mkdir(parents=True, exist_ok=True)
        with self._turn(WRITERS), self._connect(read_only=False, create=True) as connection:
            connection.begin()
            if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE database_name = 'lake'").fetchall():
                fill(connection)
            connection.commit()

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The catalog as it is now, independent of commits that land meanwhile."""
        with self._turn(FILES, shared=True), self._connect(read_only=True) as connection:
            connection.begin()
            yield connection

    @contextmanager
    def reading_aside(self, *, threads: int) -> Iterator[duckdb.DuckDBPyConnection]:
        """The same: commits never wait for readers. All units of work share the `threads` of one instance."""
        with self.reading() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The catalog, for one writer at a time."""
        with self._turn(WRITERS), self._connect(read_only=False) as connection:
            yield connection

    def compact(self, fold: Work) -> None:
        """Fold, merge small files, and delete unused ones. Waits until nobody reads."""
        with self._turn(WRITERS, FILES), self._connect(read_only=False) as connection:
            fold(connection)
            for call in (
                "ducklake_flush_inlined_data('lake')",
                "ducklake_merge_adjacent_files('lake')",
                "ducklake_rewrite_data_files('lake', delete_threshold => 0)",
                "ducklake_expire_snapshots('lake', older_than => now())",
                "ducklake_cleanup_old_files('lake', cleanup_all => true)",
                "ducklake_delete_orphaned_files('lake', cleanup_all => true)",  # of writers that were killed
            ):
                connection.execute(f"SELECT count(*) FROM {call}")

    def size(self) -> int:
        """Size of the Parquet files of the newest snapshot in bytes."""
        with self.reading() as connection:
            query = "SELECT coalesce(sum(file_size_bytes + delete_file_size_bytes), 0) FROM ducklake_table_info('lake')"
            return int(connection.execute(query).fetchall()[0][0])

    def close(self) -> None:
        """Close the connection; the next unit of work connects again."""
        with self._guard:
            if self._held is not None:
                self._held.close()
            self._held = None

    @contextmanager
    def _turn(self, *locks: str, shared: bool = False) -> Iterator[None]:
        """Hold advisory locks of the database; Busy names the holder of one after `patience` seconds of waiting."""
        psycopg = _library("psycopg")
        with self._database() as database:
            database.execute("SELECT set_config('lock_timeout', %s, false)", [f"{round(self.patience * 1000)}ms"])
            for lock in locks:
                key = self._key(lock)
                try:
                    database.execute(f"SELECT pg_advisory_lock{'_shared' if shared else ''}(%s)", [key])
                except psycopg.errors.LockNotAvailable:
                    raise Busy(
                        f"{self.name}: {_holder(database, key)} has held it for {self.patience:.1f} s; "
                        "wait for it, or end it"
                    ) from None
            yield

    @contextmanager
    def _database(self) -> Iterator[Any]:
        psycopg = _library("psycopg")
        me = f"process {os.getpid()} on {socket.gethostname()}"
        try:
            connection = psycopg.connect(self.address.server, autocommit=True, application_name=me, connect_timeout=10)
        except psycopg.OperationalError as error:
            raise self._unreachable(error) from error
        with connection:
            yield connection

    @contextmanager
    def _connect(self, *, read_only: bool, create: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._cursor(create=create)
        try:
            yield cursor
        except (*ENVIRONMENT, duckdb.InvalidInputException) as error:
            self.close()  # the next unit of work must not get a connection that the database has closed
            failure = self._failure(error, read_only=read_only)
            if failure is None:
                raise
            raise failure from error
        finally:
            cursor.close()

    def _cursor(self, *, create: bool) -> duckdb.DuckDBPyConnection:
        with self._guard:
            if self._held is None:
                self._held = self._attach(create=create)
            cursor = self._held.cursor()
        cursor.execute("USE lake")
        return prepare(cursor)

    def _attach(self, *, create: bool) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        try:
            for name in EXTENSIONS:
                connection.execute(f"LOAD {quoted(str(_extension(name)))}")
            if "://" in self.address.data:
                _reach_storage(connection)
            connection.execute(
                f"ATTACH {quoted(f'ducklake:postgres:{self.address.server}')} AS lake (DATA_PATH "
                f"{quoted(self.address.data.rstrip('/') + '/')}, METADATA_SCHEMA {quoted(self.address.schema)}, "
                f"CREATE_IF_NOT_EXISTS {create})"
            )
        except duckdb.Error as error:
            connection.close()
            raise self._unreachable(error) from error
        return connection

    def _unreachable(self, error: Exception) -> AmberError:
        return Failed(f"{self.name}: does not answer ({first_line(error)}); start the database, or correct the URL")

    def _failure(self, error: duckdb.Error, *, read_only: bool) -> AmberError | None:
        reason = first_line(error)
        if any(part in reason for part in UNREADABLE):
            return Damaged(f"{self.name}: cannot be read ({reason}); restore a backup")
        if isinstance(error, duckdb.InvalidInputException):
            return None
        if "conflict" in reason:
            return Busy(f"{self.name}: was written to by a process without the lock ({reason}); run the same again")
        if "server closed" in reason or "onnection" in reason:
            return Failed(
                f"{self.name}: lost the connection to its database ({reason}); run the same again, nothing lands twice"
            )
        if read_only:
            return Failed(f"{self.name}: cannot be read ({reason}); fix the cause, then run the same again")
        return Failed(f"{self.name}: nothing of this commit was written ({reason}); free space or fix the storage")

    def _key(self, lock: str) -> int:
        return int.from_bytes(hashlib.sha256(f"amber {self.address.schema} {lock}".encode()).digest()[:7])


def _holder(database: Any, key: int) -> str:
    row = database.execute(
        "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' "
        "AND granted AND (CAST(classid AS bigint) << 32) + CAST(objid AS bigint) = %s LIMIT 1", [key],
    ).fetchone()  # fmt: skip
    return str(row[0]) if row else "another process"


def _reach_storage(connection: duckdb.DuckDBPyConnection) -> None:
    """Make object storage readable; DuckDB itself reads the keys from AWS_ACCESS_KEY_ID and the like."""
    connection.execute(f"LOAD {quoted(str(_extension('httpfs')))}")
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))  # a self-hosted store, as the AWS tools configure it
    if endpoint.netloc:
        connection.execute(f"SET GLOBAL s3_endpoint = {quoted(endpoint.netloc)}; SET GLOBAL s3_url_style = 'path'")
        connection.execute(f"SET GLOBAL s3_use_ssl = {endpoint.scheme == 'https'}")


def _extension(name: str) -> Path:
    """The file of a DuckDB extension from its wheel; DuckDB itself would download it."""
    package = Path(str(_library(f"duckdb_extension_{name}").__file__)).parent
    return package / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise not_installed(name, "lake") from None
