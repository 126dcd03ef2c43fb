"""A catalog of an older Amber is refused, and migrated with a backup beside it."""

import json
import os
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from support.full_disk import full_disk

from amber.cli import run
from curation import BadInput, Busy, Catalog, Damaged, Failed
from curation.catalog import schema
from curation.catalog.admin import migrations
from curation.catalog.admin.migrations import migrate
from curation.catalog.admin.verification import verify

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

TO_3 = """
ALTER TABLE attribute_event DROP COLUMN "integer"; ALTER TABLE attribute_interval DROP COLUMN "integer";
ALTER TABLE forgotten DROP COLUMN key_sha256;
DROP TABLE owner_event; DROP TABLE policy_event; DROP TABLE act_event"""
"""What turns a catalog of version 4 into one of version 3."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace with a catalog of version 1."""
    with duckdb.connect(str(tmp_path / "catalog.duckdb")) as connection:
        connection.execute(VERSION_1 + ROWS)
    return tmp_path


def colors(commit: int, home: Path) -> list[int]:
    with Catalog.open(home).read(commit) as then:
        return then.labels("color")["code"].to_pylist()


def test_an_older_schema_is_refused(home: Path) -> None:
    with pytest.raises(BadInput, match=r"its schema is 1, .*`amber catalog migrate` migrates it"):
        Catalog.open(home)


def test_migration_keeps_everything_and_a_backup(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = (home / "catalog.duckdb").read_bytes()
    assert run(["catalog", "migrate", "--home", str(home), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["before"], done["after"], done["counts"]["label_event"]) == (1, schema.VERSION, 7)
    assert Path(done["backup"]) == home / "catalog.v1.duckdb"
    assert (home / "catalog.v1.duckdb").read_bytes() == old
    catalog = Catalog.open(home)
    assert [check.fault for check in verify(catalog) if check.fault] == []
    assert (colors(1, home), colors(2, home)) == ([0, 1, 0, 1], [1, 1, 0, 1])
    with catalog.read() as now:
        assert (now.digest, now.counts()) == ("digest2", done["counts"])
        assert now.definition("car").book == ("false", "true")
        boxes = now.labels("things")["boxes"].to_pylist()
        assert boxes == [[{"code": 0, "x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0, "attributes": None}], []]
        assert now.members(now.slices()["night"].predicate).tolist() == [2, 3]
        assert (now.earlier(1).attributes(), set(now.attributes())) == ({}, {"night", "unset"})


def test_version_2_keeps_its_books(home: Path) -> None:
    migrate(home)
    before = Catalog.open(home)
    with before.read() as now:
        kept = now.definitions(), now.counts(), now.digest
    with duckdb.connect(str(home / "catalog.duckdb")) as connection:
        connection.execute(f"{TO_3}; DROP TABLE answer_event; UPDATE meta SET value = '2' WHERE name = 'schema'")
    assert migrate(home).before == 2
    with Catalog.open(home).read() as now:
        assert (now.definitions(), now.counts(), now.digest) == kept


def test_version_3_gets_whole_numbers_tombstones_and_acts(home: Path) -> None:
    migrate(home)
    catalog = Catalog.open(home)
    with catalog.commit(author="ada", message="forget") as change:
        change.forget("k3", predictions={})
    with catalog.read() as now:
        kept = now.counts(), now.digest, now.attributes()
    with duckdb.connect(str(home / "catalog.duckdb")) as connection:
        connection.execute(f"{TO_3}; UPDATE meta SET value = '3' WHERE name = 'schema'")
    assert migrate(home).before == 3
    with Catalog.open(home).commit(author="ada", message="a number") as change:
        assert (change.now.earlier(change.id - 1).counts(), change.now.earlier(change.id - 1).digest) == kept[:2]
        assert change.now.attributes() == kept[2]
        change.add_attributes(pa.table({"key": ["k0"], "track": pa.array([2**60 + 1])}))
        assert change.now.attribute("track")["value"].to_pylist() == [2**60 + 1]
    assert [check.fault for check in verify(Catalog.open(home)) if check.fault] == []


def test_migrated_is_left_alone(home: Path) -> None:
    migrate(home)
    again = migrate(home)
    assert (again.before, again.backup) == (schema.VERSION, None)
    assert [path.name for path in home.glob("catalog.v*")] == ["catalog.v1.duckdb"]


def test_a_second_migration_keeps_the_first_backup(home: Path) -> None:
    migrate(home)
    shutil.copyfile(home / "catalog.v1.duckdb", home / "catalog.duckdb")
    assert migrate(home).backup == home / "catalog.v1.2.duckdb"


def test_a_migration_that_loses_rows_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lossy = {1: {**migrations.CONVERSIONS[1], "sample": "FROM old.sample LIMIT 3"}}
    monkeypatch.setattr(migrations, "CONVERSIONS", lossy)
    with pytest.raises(Damaged, match="sample has 4 rows, the copy 3"):
        migrate(home)
    with pytest.raises(BadInput, match="its schema is 1"):
        Catalog.open(home)
    monkeypatch.undo()
    migrate(home)
    assert colors(2, home) == [1, 1, 0, 1]


@pytest.mark.parametrize("version", ["0", "99"])
def test_versions_that_cannot_be_migrated(home: Path, version: str) -> None:
    with duckdb.connect(str(home / "catalog.duckdb")) as connection:
        connection.execute("UPDATE meta SET value = ?", [version])
    with pytest.raises(BadInput, match=f"its schema is {version}"):
        migrate(home)


def test_a_full_disk_keeps_the_old_one(home: Path) -> None:
    size = (home / "catalog.duckdb").stat().st_size
    with pytest.raises(Failed), full_disk(size // 2):
        migrate(home)
    assert sorted(os.listdir(home)) == ["catalog.duckdb", "catalog.lock", "catalog.next"]
    migrate(home)


def test_migration_waits_its_turn(home: Path) -> None:
    with Catalog(home).backend.writing(), pytest.raises(Busy, match="has held it"):
        migrate(home, patience=0.1)
