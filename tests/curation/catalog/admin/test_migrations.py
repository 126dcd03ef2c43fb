"""A catalog of an older Amber is refused, and migrated with a backup beside it."""

import json
import os
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from support.full_disk import full_disk
from support.older_catalogs import downgrade, make_version_1

from amber.cli import run
from curation import BadInput, Busy, Catalog, Damaged, Failed
from curation.catalog import schema
from curation.catalog.admin import migrations
from curation.catalog.admin.migrations import migrate
from curation.catalog.admin.verification import verify


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace with a catalog of version 1."""
    return make_version_1(tmp_path)


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
    downgrade(home, 2)
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
    downgrade(home, 3)
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
