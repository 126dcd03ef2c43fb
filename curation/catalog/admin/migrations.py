"""Migration of a catalog from an older schema: a backup first, then a new file that replaces the old one.

`CONVERSIONS` also serves older backups: whoever changes the schema adds an entry there, and both go on.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from curation.catalog import current_labels, schema
from curation.catalog.arrow_query import quoted
from curation.catalog.backends.backend import detach
from curation.catalog.backends.duckdb_file import DuckDBFile
from curation.catalog.backends.journal import checkpoint
from curation.catalog.catalog import Catalog, new_tables
from curation.catalog.task_definitions import Definition
from curation.catalog.tasks import Task
from curation.errors import BadInput, Busy, Damaged
from curation.files.atomic import whole

__all__ = ["CONVERSIONS", "Migration", "convert", "lacking", "migrate"]

NEW_IN_6: Final = {"instruction_event": "", "assignment_event": "", "person_event": ""}
NEW_IN_4: Final = {"owner_event": "", "policy_event": "", "act_event": "", **NEW_IN_6}

FROM_1: Final = {
    "attribute": """
        SELECT coalesce(min(commit_id), (SELECT id FROM old.head)) AS commit_id, name, type
        FROM old.attribute LEFT JOIN old.attribute_event USING (name) GROUP BY name, type ORDER BY commit_id, name""",
    "label_event": """
        FROM old.label_event SELECT * REPLACE (list_transform(boxes, lambda b: struct_insert(b,
            attributes := CAST(NULL AS MAP(VARCHAR, VARCHAR)))) AS boxes)""",
    "task_event": "SELECT *, [] AS book, [] AS codes FROM old.task_event",
    "forgotten": "",
    "answer_event": "",
    **NEW_IN_4,
}
"""Tables that version 2 changed: definitions have a book of classes, boxes have attributes, attributes have a commit;
`forgotten` is new. Version 3 adds to each answer its item in Label Studio. Version 4 adds whole numbers to attributes,
hashes to forgotten keys, and the tables of owners, policies in force and authored acts. Version 5 adds to a label of
several classes those that were looked for. Version 6 adds to a label the version of its instructions, and the tables of
instructions, assignments and people who left."""

CONVERSIONS: Final[Mapping[int, Mapping[str, str]]] = {
    1: FROM_1,
    2: {"answer_event": "", **NEW_IN_4},
    3: NEW_IN_4,
    4: NEW_IN_6,
    5: NEW_IN_6,
}
"""For each older version, the queries that convert its tables; an empty query for a table that it lacks."""

SOMETIMES: Final = {2: ("forgotten",)}
"""Tables that only some catalogs of a version have: `forgotten` came while version 2 was the newest."""


@dataclass(frozen=True, kw_only=True)
class Migration:
    """Schema versions before and after, the path of the backup (None: nothing was done), and rows per table."""

    before: int
    after: int
    backup: Path | None
    counts: dict[str, int]


def migrate(home: Path | str, *, patience: float = 30.0) -> Migration:
    """Migrate the catalog of a workspace to this Amber's schema; a catalog with that schema is left alone.

    First the file is copied to `catalog.vN.duckdb` beside it; that copy is kept. BadInput when the schema is newer, or
    too old for this Amber; Damaged when rows are missing after the migration: then the catalog is unchanged.
    """
    catalog = Catalog(Path(home).resolve(), patience=patience)
    found = catalog.schema_version()
    if found >= schema.VERSION:
        with catalog.checked().read() as now:
            return Migration(before=found, after=found, backup=None, counts=now.counts())
    if found not in CONVERSIONS or not isinstance(catalog.backend, DuckDBFile):
        raise BadInput(
            f"{catalog.backend.name}: its schema is {found}, which this Amber cannot migrate; restore a backup"
        )
    with catalog.backend.turn(exclusive=True):
        backup = _back_up(catalog.backend, found)
        with catalog.backend.rewritten() as connection:
            connection.execute(f"ATTACH {quoted(str(backup))} AS old (READ_ONLY)")
            counts = convert(connection, found, str(backup))
            detach(connection, "old")
    return Migration(before=found, after=schema.VERSION, backup=backup, counts=counts)


def lacking(version: int) -> tuple[str, ...]:
    """The tables of today's schema that a catalog or a backup of an older `version` may lack."""
    lacks = (table for table, query in CONVERSIONS.get(version, {}).items() if not query)
    return (*lacks, *SOMETIMES.get(version, ()))


def _back_up(backend: DuckDBFile, version: int) -> Path:
    with backend.connect(read_only=False) as connection:
        if connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchall() != [(str(version),)]:
            raise Busy(f"{backend.name}: was migrated by another process meanwhile; run the same again")
        checkpoint(connection, backend.path, "catalog")
    names = [f"catalog.v{version}{suffix}.duckdb" for suffix in ("", *(f".{turn}" for turn in range(2, 1000)))]
    backup = next(backend.home / name for name in names if not (backend.home / name).exists())
    with whole(backup) as part:
        shutil.copyfile(backend.path, part)
    return backup


def convert(connection: duckdb.DuckDBPyConnection, version: int, name: str) -> dict[str, int]:
    """Fill new tables from those of the older `version` in `old`; return the rows of each table that only grows.

    Damaged, with the `name` of the old ones, where rows are missing afterwards.
    """
    queries, found = CONVERSIONS[version], _tables_of_old(connection)
    new_tables(connection)
    connection.execute("DELETE FROM head")
    for table in ("head", "annotator", *schema.GROWING):
        query = queries.get(table, f"FROM old.{table}")
        if not query or (table in SOMETIMES.get(version, ()) and table not in found):
            continue
        connection.execute(f"INSERT INTO {table} BY NAME {query}")
        before, after = (_count(connection, name) for name in (f"old.{table}", table))
        if before != after:
            raise Damaged(f"{name}: {table} has {before} rows, the copy {after}; the catalog is unchanged, report this")
    _define(connection)
    current_labels.fold(connection)
    return {table: _count(connection, table) for table in schema.GROWING}


def _tables_of_old(connection: duckdb.DuckDBPyConnection) -> set[str]:
    query = "SELECT table_name FROM information_schema.tables WHERE table_catalog = 'old'"
    return {str(name) for (name,) in connection.execute(query).fetchall()}


def _define(connection: duckdb.DuckDBPyConnection) -> None:
    """Give the definitions of version 1, one per task, their books."""
    bare = "SELECT task_id, definition FROM task_event WHERE len(book) = 0"
    for task_id, text in connection.execute(bare).fetchall():
        first = Definition.first(Task.model_validate_json(text), task_id)
        connection.execute(
            "UPDATE task_event SET book = ?, codes = ? WHERE task_id = ?",
            [list(first.book), list(first.codes), task_id],
        )


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])
