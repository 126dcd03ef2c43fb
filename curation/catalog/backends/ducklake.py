"""A catalog on DuckLake: its tables are Parquet files in a folder or object store, listed by a PostgreSQL database.

Attaching costs up to half a second, so a handle holds the connection, and hands out a cursor of it for each unit of
work. Readers and writers of one snapshot never meet. Writers take turns by an advisory lock of the database, which
queues them fairly and lets go when its holder dies: DuckLake by itself would let them collide at the end of their work,
when it can no longer be done again. Readers share a second lock, so that compaction deletes no file that one reads.
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
from curation.errors import AmberError, BadInput, Busy, Damaged, Failed

__all__ = ["Address", "DuckLake"]

EXTENSIONS: Final = ("ducklake", "postgres_scanner")  # in this order: the second one links to what the first one loads

WRITERS: Final = "writers"
FILES: Final = "files"

UNREADABLE: Final = ("No magic bytes", "Cannot open file", "Could not read", "No files found", "TProtocolException",
                     "Invalid parquet", "Invalid footer", "corrupt", "Failed to read Parquet",
                     "too small to be a Parquet")  # fmt: skip
"""What DuckDB says of a Parquet file that is gone or damaged."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """`postgresql://USER@HOST:PORT/DATABASE?data=FOLDER&schema=NAME`, in its parts.

    `server` is what libpq takes, `data` an absolute folder or the URL of object storage, `schema` the database schema
    that lists the files (default: amber). A password is refused: workspaces are copied and shown to others.
    """

    server: str
    data: str
    schema: str

    @classmethod
    def parse(cls, url: str) -> "Address":
        """The parts of `url`; BadInput says what is wrong with it."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        data, schema = options.pop("data", ""), options.pop("schema", "amber")
        if parts.scheme not in ("postgresql", "postgres"):
            raise BadInput(f"catalog {url!r}: must be postgresql://USER@HOST/DATABASE?data=FOLDER; correct it")
        if parts.password or "password" in options:
            bare = url.replace(parts.password or options["password"], "...")
            raise BadInput(f"catalog {bare!r}: must hold no password; keep it in PGPASSWORD or ~/.pgpass")
        if "://" not in data and not Path(data).is_absolute():
            raise BadInput(f"catalog {url!r}: data={data!r} must be an absolute folder or s3://BUCKET/...; name one")
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
        """Make an empty catalog, unless one is there."""
        if "://" not in self.address.data:
            Path(self.address.data).mkdir(parents=True, exist_ok=True)
        with self._turn(WRITERS), self._connect(read_only=False, create=True) as connection:
            connection.begin()
            if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE database_name = 'lake'").fetchall():
                fill(connection)
            connection.commit()

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The catalog as it stands now, whatever is committed meanwhile."""
        with self._turn(FILES, shared=True), self._connect(read_only=True) as connection:
            connection.begin()
            yield connection

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The catalog, for one writer at a time."""
        with self._turn(WRITERS), self._connect(read_only=False) as connection:
            yield connection

    def compact(self, fold: Work) -> None:
        """Fold, join small files, and delete those that no reader can need: none reads meanwhile."""
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
        """Bytes of the Parquet files of the newest snapshot."""
        with self.reading() as connection:
            query = "SELECT coalesce(sum(file_size_bytes + delete_file_size_bytes), 0) FROM ducklake_table_info('lake')"
            return int(connection.execute(query).fetchall()[0][0])

    def close(self) -> None:
        """Let go of the connection; the next unit of work connects anew."""
        with self._guard:
            if self._held is not None:
                self._held.close()
            self._held = None

    @contextmanager
    def _turn(self, *locks: str, shared: bool = False) -> Iterator[None]:
        """Hold advisory locks of the database; Busy names who did not let go within `patience` seconds."""
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
            self.close()  # a connection that the database has ended is of no use to the next unit
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
            return Busy(f"{self.name}: written to by somebody who takes no turns ({reason}); run the same again")
        if "server closed" in reason or "onnection" in reason:
            return Failed(f"{self.name}: lost its database ({reason}); run the same again, nothing lands twice")
        if read_only:
            return Failed(f"{self.name}: cannot be read ({reason}); mend that, and run the same again")
        return Failed(f"{self.name}: nothing of this commit was written ({reason}); free space or mend the storage")

    def _key(self, lock: str) -> int:
        return int.from_bytes(hashlib.sha256(f"amber {self.address.schema} {lock}".encode()).digest()[:7])


def _holder(database: Any, key: int) -> str:
    row = database.execute(
        "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' "
        "AND granted AND (CAST(classid AS bigint) << 32) + CAST(objid AS bigint) = %s LIMIT 1", [key],
    ).fetchone()  # fmt: skip
    return str(row[0]) if row else "somebody"


def _reach_storage(connection: duckdb.DuckDBPyConnection) -> None:
    """Make object storage readable; DuckDB itself takes its keys from AWS_ACCESS_KEY_ID and the like."""
    connection.execute(f"LOAD {quoted(str(_extension('httpfs')))}")
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))  # a store of one's own, in AWS's own words
    if endpoint.netloc:
        connection.execute(f"SET GLOBAL s3_endpoint = {quoted(endpoint.netloc)}; SET GLOBAL s3_url_style = 'path'")
        connection.execute(f"SET GLOBAL s3_use_ssl = {endpoint.scheme == 'https'}")


def _extension(name: str) -> Path:
    """The file of an extension of DuckDB that came as a wheel: DuckDB itself would fetch it from the net."""
    package = Path(str(_library(f"duckdb_extension_{name}").__file__)).parent
    return package / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise BadInput(
            f"{name}: is not installed; a catalog on DuckLake needs `pip install amber-curation[lake]`"
        ) from None
