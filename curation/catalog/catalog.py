"""The catalog of one workspace, and its two units of work: `read()` and `commit()`.

The backend decides where the catalog is stored, how to connect and how units of work take turns: one DuckDB file in the
workspace, or DuckLake when the workspace's `catalog.toml` names one.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import duckdb

from curation.catalog import current_labels, schema
from curation.catalog.arrow_query import first
from curation.catalog.backends.backend import Backend, transaction
from curation.catalog.backends.duckdb_file import DuckDBFile
from curation.catalog.backends.ducklake import DuckLake
from curation.catalog.commit import PendingCommit
from curation.catalog.snapshot import Snapshot
from curation.errors import AmberError, BadInput, Damaged, NotFound
from curation.files.atomic import whole
from curation.files.toml_files import toml_value
from curation.rows import html_table, shortened

__all__ = ["ADDRESS", "Catalog", "address_of", "backend_of", "check_author", "keep_address", "new_tables"]

ADDRESS: Final = "catalog.toml"
"""The file of a workspace that holds the URL of its catalog, when that is not a file in the workspace."""

GLANCE: Final = 0.5
"""Seconds for which a notebook that shows a catalog waits for a commit."""


class Catalog:
    """The catalog of one workspace (`home`): which labels each image has, from whom, since which commit.

    >>> catalog = Catalog.create(folder)
    >>> with catalog.commit(author="ada", message="first tasks") as change:
    ...     change.add_tasks([Task(name="night", kind="binary", owner="ada")])
    >>> with catalog.read() as now:
    ...     list(now.tasks()), len(now.labels("night"))
    (['night'], 0)
    """

    def __init__(self, home: Path, *, patience: float = 30.0) -> None:
        self.home = home
        self.file = home / "catalog.duckdb"
        self.backend = backend_of(home, patience=patience)

    def __repr__(self) -> str:
        return shortened(f"Catalog of {self.home}")

    def _repr_html_(self) -> str:
        """What it holds; only its name while another process, or a `with` block, commits."""
        quick = Catalog(self.home, patience=GLANCE)
        try:
            with quick.read() as now:
                return html_table(repr(self), [], now.overview())
        except AmberError:
            return html_table(repr(self), [], [])
        finally:
            quick.close()

    @classmethod
    def create(cls, home: Path | str, *, url: str = "") -> "Catalog":
        """Make a workspace with an empty catalog, or open the existing one.

        `url` puts the catalog on DuckLake (see `ducklake.Address`), where several workspaces may share it; otherwise it
        is a file in the workspace. BadInput when the workspace already has its catalog elsewhere.
        """
        folder = Path(home).resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise BadInput(f"{home}: a workspace is a folder; choose another --home") from None
        if url and url != address_of(folder):
            _refuse_another(folder)
            backend_of(folder, url).create(new_tables)
            keep_address(folder, url)
        catalog = cls(folder)
        if not catalog.backend.exists():
            catalog.backend.create(new_tables)
        return catalog.checked()

    @classmethod
    def open(cls, home: Path | str) -> "Catalog":
        """The catalog of the workspace `home`; NotFound when there is none."""
        catalog = cls(Path(home).resolve())
        if not catalog.backend.exists():
            where = f"{home}: is not an Amber workspace" if catalog.backend.name == str(catalog.file) else (
                f"{catalog.backend.name}: holds no catalog"
            )  # fmt: skip
            raise NotFound(f"{where}; `amber init --home {home}` makes one")
        return catalog.checked()

    def checked(self) -> "Catalog":
        """This catalog, after a check that its schema is the one that this Amber knows; otherwise BadInput."""
        found = self.schema_version()
        if found < schema.VERSION:
            raise BadInput(
                f"{self.backend.name}: its schema is {found}, this Amber knows {schema.VERSION}; "
                "`amber catalog migrate` migrates it and keeps a backup"
            )
        if found > schema.VERSION:
            raise BadInput(
                f"{self.backend.name}: its schema is {found}, this Amber knows {schema.VERSION}; "
                "use the Amber that made it"
            )
        return self

    @contextmanager
    def read(self, commit: int | None = None) -> Iterator[Snapshot]:
        """The snapshot at `commit` (default: the newest), valid only inside the `with` block."""
        with self.backend.reading() as connection:
            yield Snapshot.at(connection, commit)

    @contextmanager
    def read_aside(self, *, threads: int = 1) -> Iterator[Snapshot]:
        """The newest snapshot, for reads that take long: no commit waits for the end of the block.

        A catalog in one file is copied first (0.1 s for 1M images), so the disk must have room for it twice.
        """
        with self.backend.reading_aside(threads=threads) as connection:
            yield Snapshot.at(connection, None)

    @contextmanager
    def commit(self, *, author: str, message: str, batch: str | None = None) -> Iterator[PendingCommit]:
        """One atomic change. A `batch` id that has landed before makes it a no-op; an exception leaves the catalog
        unchanged."""
        check_author(author)
        with self.backend.writing() as connection:
            with transaction(connection):
                change = PendingCommit.begin(
                    connection, author=author, message=message, batch=batch or uuid.uuid4().hex
                )
                yield change
                change.finish()
            with suppress(duckdb.Error):  # the commit is durable; a fold that fails now is done after the next commit
                if current_labels.due(connection):
                    _fold(connection)

    def compact(self) -> None:
        """Fold new events into the intervals, and free the space of deleted rows."""
        self.backend.compact(_fold)

    def has(self, batch: str) -> bool:
        """Whether a commit with this batch id has landed."""
        with self.read() as now:
            return now.has(batch)

    def close(self) -> None:
        """Close the connection to DuckLake, if any; the next unit of work connects again."""
        self.backend.close()

    def schema_version(self) -> int:
        """The version of the stored schema; Damaged when there is no catalog."""
        with self.backend.reading() as connection:
            try:
                found = first(connection, "SELECT value FROM meta WHERE name = 'schema'")
            except (duckdb.CatalogException, duckdb.BinderException):
                found = None
        if found is None or not found[0].isdigit():
            raise Damaged(f"{self.backend.name}: is not a catalog of Amber; choose another --home")
        return int(found[0])


def backend_of(home: Path, url: str = "", *, patience: float = 30.0) -> Backend:
    """The backend of a workspace: at `url`, else at the URL in its `catalog.toml`, else its own DuckDB file."""
    url = url or address_of(home)
    return DuckLake(url, patience=patience) if url else DuckDBFile(home, patience=patience)


def address_of(home: Path) -> str:
    """The URL in the workspace's `catalog.toml`; "" when the catalog is a file in the workspace."""
    path = home / ADDRESS
    if not path.is_file():
        return ""
    try:
        url = toml_value(path.read_text())["url"]
    except (ValueError, KeyError):
        raise BadInput(f'{path}: must hold one line, url = "postgresql://..."; correct it') from None
    return str(url)


def check_author(author: str) -> None:
    """BadInput where there is no author: a verb calls it before long work that ends in a commit."""
    if not author.strip():
        raise BadInput("author '': every commit has one; pass --author NAME or set AMBER_AUTHOR")


def keep_address(home: Path, url: str) -> None:
    """Write the URL of a workspace's catalog into its `catalog.toml`."""
    with whole(home / ADDRESS) as part:
        part.write_text(f"url = {json.dumps(url)}\n")


def _refuse_another(home: Path) -> None:
    """Refuse a second catalog for a workspace: it would hide the first."""
    if address_of(home) or (home / "catalog.duckdb").exists():
        raise BadInput(f"{home}: already has a catalog; `amber catalog copy URL --move` moves it")


def new_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Write the tables of an empty catalog."""
    connection.execute(schema.DDL)
    connection.execute("INSERT INTO meta VALUES ('schema', ?)", [str(schema.VERSION)])
    connection.execute("INSERT INTO head VALUES (0); INSERT INTO folded VALUES (0)")


def _fold(connection: duckdb.DuckDBPyConnection) -> None:
    with transaction(connection):
        current_labels.fold(connection)
