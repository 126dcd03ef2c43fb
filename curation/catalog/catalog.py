"""The catalog: a handle on what one workspace knows, and its units of work.

`read()` and `commit()` are units of work. Where the catalog lies, how to connect and how units take turns is its
place's: one DuckDB file in the workspace, or DuckLake when the workspace's `catalog.toml` names one.
"""

import json
import tomllib
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
from curation.errors import BadInput, Damaged, NotFound
from curation.files.atomic import whole

__all__ = ["ADDRESS", "Catalog", "address_of", "keep_address", "new_tables", "place_of"]

ADDRESS: Final = "catalog.toml"
"""The file of a workspace that says where its catalog lies, when that is not a file of its own."""


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
        self.place = place_of(home, patience=patience)

    @classmethod
    def create(cls, home: Path | str, *, url: str = "") -> "Catalog":
        """Make a workspace with an empty catalog, or open the one that is there.

        `url` puts the catalog on DuckLake (see `ducklake.Address`), where several workspaces may share it; else it lies
        in a file of the workspace. BadInput when the workspace has its catalog elsewhere.
        """
        folder = Path(home).resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise BadInput(f"{home}: a workspace is a folder; choose another --home") from None
        if url and url != address_of(folder):
            _refuse_another(folder)
            place_of(folder, url).create(new_tables)
            keep_address(folder, url)
        catalog = cls(folder)
        if not catalog.place.exists():
            catalog.place.create(new_tables)
        return catalog.checked()

    @classmethod
    def open(cls, home: Path | str) -> "Catalog":
        """A handle on the workspace `home`; NotFound when there is none."""
        catalog = cls(Path(home).resolve())
        if not catalog.place.exists():
            where = f"{home}: no Amber workspace is there" if catalog.place.name == str(catalog.file) else (
                f"{catalog.place.name}: no catalog is there"
            )  # fmt: skip
            raise NotFound(f"{where}; `amber init --home {home}` makes one")
        return catalog.checked()

    def checked(self) -> "Catalog":
        """This handle, once its place was found to hold a catalog of the schema that this Amber knows."""
        found = self.schema_version()
        if found < schema.VERSION:
            raise BadInput(
                f"{self.place.name}: its schema is {found}, this Amber knows {schema.VERSION}; "
                "`amber catalog migrate` brings it up, and keeps a backup"
            )
        if found > schema.VERSION:
            raise BadInput(
                f"{self.place.name}: its schema is {found}, this Amber knows {schema.VERSION}; "
                "use the Amber that made it"
            )
        return self

    @contextmanager
    def read(self, commit: int | None = None) -> Iterator[Snapshot]:
        """What was known at `commit` (default: now). The snapshot is valid inside the `with` block only."""
        with self.place.reading() as connection:
            yield Snapshot.at(connection, commit)

    @contextmanager
    def commit(self, *, author: str, message: str, batch: str | None = None) -> Iterator[PendingCommit]:
        """One atomic change. The same `batch` id again is a no-op; an exception leaves the catalog as it was."""
        if not author.strip():
            raise BadInput("author '': every commit has one; pass --author NAME or set AMBER_AUTHOR")
        with self.place.writing() as connection:
            with transaction(connection):
                change = PendingCommit.begin(
                    connection, author=author, message=message, batch=batch or uuid.uuid4().hex
                )
                yield change
                change.finish()
            with suppress(duckdb.Error):  # the commit is durable; what is not folded now is folded after the next one
                if current_labels.due(connection):
                    _fold(connection)

    def compact(self) -> None:
        """Fold what came since into the intervals, and give back the space of what is gone."""
        self.place.compact(_fold)

    def has(self, batch: str) -> bool:
        """Whether a commit with this batch id has landed."""
        with self.read() as now:
            return now.has(batch)

    def close(self) -> None:
        """Let go of the connection that a handle on DuckLake holds; the next unit of work connects anew."""
        self.place.close()

    def schema_version(self) -> int:
        """The version of the schema that is found there; Damaged when it is no catalog."""
        with self.place.reading() as connection:
            try:
                found = first(connection, "SELECT value FROM meta WHERE name = 'schema'")
            except (duckdb.CatalogException, duckdb.BinderException):
                found = None
        if found is None or not found[0].isdigit():
            raise Damaged(f"{self.place.name}: not a catalog of Amber's; choose another --home")
        return int(found[0])


def place_of(home: Path, url: str = "", *, patience: float = 30.0) -> Backend:
    """Where the catalog of a workspace lies: at `url`, else where its `catalog.toml` says, else in its own file."""
    url = url or address_of(home)
    return DuckLake(url, patience=patience) if url else DuckDBFile(home, patience=patience)


def address_of(home: Path) -> str:
    """The URL that the workspace's `catalog.toml` holds, "" when its catalog is a file of its own."""
    path = home / ADDRESS
    if not path.is_file():
        return ""
    try:
        url = tomllib.loads(path.read_text())["url"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError):
        raise BadInput(f'{path}: must hold one line, url = "postgresql://..."; correct it') from None
    return str(url)


def keep_address(home: Path, url: str) -> None:
    """Write down where the catalog of a workspace lies from now on."""
    with whole(home / ADDRESS) as part:
        part.write_text(f"url = {json.dumps(url)}\n")


def _refuse_another(home: Path) -> None:
    """Refuse a second catalog for a workspace, which would hide its first one."""
    if address_of(home) or (home / "catalog.duckdb").exists():
        raise BadInput(f"{home}: has a catalog already; `amber catalog copy URL --move` takes it elsewhere")


def new_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Write the tables of an empty catalog."""
    connection.execute(schema.DDL)
    connection.execute("INSERT INTO meta VALUES ('schema', ?)", [str(schema.VERSION)])
    connection.execute("INSERT INTO head VALUES (0); INSERT INTO folded VALUES (0)")


def _fold(connection: duckdb.DuckDBPyConnection) -> None:
    with transaction(connection):
        current_labels.fold(connection)
