"""Catalogs and backups as older versions of the schema had them."""

import json
from pathlib import Path

import duckdb

from curation.catalog.admin.copying import KEPT
from curation.catalog.schema import GROWING
from curation.files.read_back import sha256_of

__all__ = ["downgrade", "export_older", "make_version_1"]

VERSION_1 = """
CREATE TABLE meta (name VARCHAR NOT NULL, value VARCHAR NOT NULL);
CREATE TABLE head (id BIGINT NOT NULL);
CREATE TABLE commits (
    id BIGINT NOT NULL, parent BIGINT NOT NULL, digest VARCHAR NOT NULL, author VARCHAR NOT NULL,
    message VARCHAR NOT NULL, batch VARCHAR NOT NULL, committed_at TIMESTAMP NOT NULL);
CREATE TABLE task_event (
    commit_id BIGINT NOT NULL, task_id INTEGER NOT NULL, name VARCHAR NOT NULL, definition VARCHAR NOT NULL);
CREATE TABLE slice_event (
    commit_id BIGINT NOT NULL, name VARCHAR NOT NULL, task VARCHAR NOT NULL, predicate VARCHAR NOT NULL,
    rare BOOLEAN NOT NULL);
CREATE TABLE annotator (annotator_id INTEGER NOT NULL, name VARCHAR NOT NULL, source VARCHAR NOT NULL);
CREATE TABLE sample (
    commit_id BIGINT NOT NULL, sample_id BIGINT NOT NULL, key VARCHAR NOT NULL, location VARCHAR NOT NULL,
    dataset VARCHAR NOT NULL, sha256 VARCHAR NOT NULL, phash UBIGINT NOT NULL, format VARCHAR NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, bytes BIGINT NOT NULL);
CREATE TABLE attribute (name VARCHAR NOT NULL, type VARCHAR NOT NULL);
CREATE TABLE attribute_event (
    commit_id BIGINT NOT NULL, sample_id BIGINT NOT NULL, name VARCHAR NOT NULL,
    text VARCHAR, number DOUBLE, flag BOOLEAN, time TIMESTAMP);
CREATE TABLE label_event (
    commit_id BIGINT NOT NULL, sample_id BIGINT NOT NULL, task_id INTEGER NOT NULL, annotator_id INTEGER NOT NULL,
    state UTINYINT NOT NULL, code INTEGER, number DOUBLE,
    boxes STRUCT(code INTEGER, x DOUBLE, y DOUBLE, w DOUBLE, h DOUBLE)[],
    confidence REAL NOT NULL, labelled_at TIMESTAMP NOT NULL);
CREATE TABLE quarantine_event (
    commit_id BIGINT NOT NULL, dataset VARCHAR NOT NULL, location VARCHAR NOT NULL, reason VARCHAR NOT NULL);
CREATE TABLE request_event (
    commit_id BIGINT NOT NULL, request_id BIGINT NOT NULL, sample_id BIGINT NOT NULL, task_id INTEGER NOT NULL,
    state VARCHAR NOT NULL, arm VARCHAR NOT NULL, slice VARCHAR NOT NULL, reason VARCHAR NOT NULL,
    run VARCHAR NOT NULL, priority INTEGER NOT NULL, propensity DOUBLE NOT NULL, cost DOUBLE NOT NULL);
CREATE TABLE run_event (
    commit_id BIGINT NOT NULL, run VARCHAR NOT NULL, plan VARCHAR NOT NULL, predictions VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL);
CREATE TABLE slice_error (
    commit_id BIGINT NOT NULL, run VARCHAR NOT NULL, task VARCHAR NOT NULL, slice VARCHAR NOT NULL,
    split VARCHAR NOT NULL, metric VARCHAR NOT NULL, n BIGINT NOT NULL, groups BIGINT NOT NULL,
    value DOUBLE, low DOUBLE, high DOUBLE);
"""

ROWS = """
INSERT INTO meta VALUES ('schema', '1');
INSERT INTO head VALUES (2);
INSERT INTO commits SELECT i, i - 1, 'digest' || i, 'ada', 'm', 'batch' || i, TIMESTAMP '2026-01-01'
    FROM range(1, 3) t(i);
INSERT INTO task_event VALUES
    (1, 0, 'color', '{"name": "color", "kind": "categorical", "classes": ["red", "green"], "owner": "ada"}'),
    (1, 1, 'car', '{"name": "car", "kind": "binary", "owner": "ada"}'),
    (1, 2, 'things', '{"name": "things", "kind": "detection", "classes": ["light"], "owner": "ada"}');
INSERT INTO slice_event VALUES (1, 'night', '', 'attr.night', false);
INSERT INTO annotator VALUES (0, 'vendor', 'import'), (1, 'bob', 'human');
INSERT INTO sample SELECT 1, i, 'k' || i, 'l' || i, 'd', 's' || i, i, 'JPEG', 20, 20, 100 FROM range(4) t(i);
INSERT INTO attribute VALUES ('night', 'flag'), ('unset', 'text');
INSERT INTO attribute_event SELECT 2, i, 'night', NULL, NULL, i > 1, NULL FROM range(4) t(i);
INSERT INTO label_event SELECT 1, i, 0, 0, 1, i % 2, NULL, NULL, 1, TIMESTAMP '2026-01-01' FROM range(4) t(i);
INSERT INTO label_event VALUES
    (1, 0, 2, 0, 1, NULL, NULL, [{'code': 0, 'x': 1, 'y': 2, 'w': 3, 'h': 4}], 1, TIMESTAMP '2026-01-01'),
    (1, 1, 2, 0, 1, NULL, NULL, [], 1, TIMESTAMP '2026-01-01'),
    (2, 0, 0, 1, 1, 1, NULL, NULL, 1, TIMESTAMP '2026-01-02');
"""

TO_5 = """
ALTER TABLE label_event DROP COLUMN instructions;
DROP TABLE instruction_event; DROP TABLE assignment_event; DROP TABLE person_event"""
"""What turns a catalog of version 6 into one of version 5."""

TO_4 = f"""{TO_5};
ALTER TABLE label_event DROP COLUMN looked; ALTER TABLE label_interval DROP COLUMN looked"""
"""What turns a catalog of today into one of version 4."""

TO_3 = f"""{TO_4};
ALTER TABLE attribute_event DROP COLUMN "integer"; ALTER TABLE attribute_interval DROP COLUMN "integer";
ALTER TABLE forgotten DROP COLUMN key_sha256;
DROP TABLE owner_event; DROP TABLE policy_event; DROP TABLE act_event"""
"""What turns a catalog of today into one of version 3."""

DOWN = {5: TO_5, 4: TO_4, 3: TO_3, 2: f"{TO_3}; DROP TABLE answer_event"}


def make_version_1(home: Path) -> Path:
    """A workspace with a catalog of version 1."""
    with duckdb.connect(str(home / "catalog.duckdb")) as connection:
        connection.execute(VERSION_1 + ROWS)
    return home


def downgrade(home: Path, version: int, *, forgotten: bool = True) -> None:
    """Make a catalog of today's version one of versions 2 to 5; what these could not hold is lost.

    Without `forgotten` it lacks that table, as the first catalogs of version 2 do.
    """
    with duckdb.connect(str(home / "catalog.duckdb")) as connection:
        connection.execute(f"{DOWN[version]}; UPDATE meta SET value = '{version}' WHERE name = 'schema'")
        if not forgotten:
            connection.execute("DROP TABLE forgotten")


def export_older(home: Path, version: int, folder: Path) -> None:
    """A backup of an older catalog, as the export of that version wrote it."""
    folder.mkdir()
    files, counts = {}, {}
    with duckdb.connect(str(home / "catalog.duckdb"), read_only=True) as connection:
        tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        for table in (name for name in KEPT if name in tables):
            path = folder / f"{table}.parquet"
            connection.execute(f"COPY {table} TO '{path}' (FORMAT parquet)")
            (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone() or (0,)
            files[path.name] = {"sha256": sha256_of(path), "rows": rows, "bytes": path.stat().st_size}
            counts |= {table: rows} if table in GROWING else {}
        commit, digest = connection.execute("SELECT id, digest FROM commits ORDER BY id DESC LIMIT 1").fetchone() or ()
    made = {"schema_version": version, "commit": commit, "digest": digest, "counts": counts, "files": files}
    (folder / "manifest.json").write_text(json.dumps(made))
