"""Backups of every older schema are read: what comes back is what a migration of the same catalog gives."""

import json
import shutil
from pathlib import Path

import duckdb
import pytest
from support.older_catalogs import downgrade, export_older, make_version_1

from curation import BadInput, Catalog, Damaged
from curation.catalog import schema
from curation.catalog.admin.backup import export, restore
from curation.catalog.admin.migrations import CONVERSIONS, migrate
from curation.catalog.admin.verification import verify
from curation.files.read_back import sha256_of

VERSIONS = sorted(CONVERSIONS)
FORMS = [*map(str, VERSIONS), "2 without forgotten"]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def version(form: str) -> int:
    return int(form[0])


@pytest.fixture
def older(form: str, version: int, tmp_path: Path) -> Path:
    """A workspace whose catalog has an older schema."""
    home = tmp_path / "older"
    home.mkdir()
    make_version_1(home)
    if version > 1:
        migrate(home)
        downgrade(home, version, forgotten="without" not in form)
    return home


def content(home: Path) -> dict[str, object]:
    with Catalog.open(home).read() as now:
        found: dict[str, object] = {"digest": now.digest, "counts": now.counts(), "samples": now.samples().to_pylist()}
        for commit in range(now.commit + 1):
            then = now.earlier(commit)
            found |= {f"{commit} {task}": then.labels(task).to_pylist() for task in then.tasks()}
            found |= {f"{commit} definitions": then.definitions(), f"{commit} attributes": then.attributes()}
        return found


def test_every_older_version_has_a_conversion() -> None:
    assert list(range(1, schema.VERSION)) == VERSIONS


def test_an_older_backup_is_what_a_migration_gives(older: Path, version: int, tmp_path: Path) -> None:
    export_older(older, version, tmp_path / "backup")
    manifest = restore(tmp_path / "new", tmp_path / "backup")
    assert (manifest.schema_version, migrate(older).before) == (version, version)
    assert content(tmp_path / "new") == content(older)
    assert [check.fault for check in verify(Catalog.open(tmp_path / "new")) if check.fault] == []
    assert not list((tmp_path / "new").glob("restore-*"))
    export(Catalog.open(tmp_path / "new"), tmp_path / "again")
    restore(tmp_path / "third", tmp_path / "again")
    assert content(tmp_path / "third") == content(older)


def test_an_older_backup_that_lost_rows_is_refused(older: Path, version: int, tmp_path: Path) -> None:
    export_older(older, version, tmp_path / "backup")
    path = tmp_path / "backup" / "label_event.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (FROM read_parquet('{path}') LIMIT 3) TO '{path}.less' (FORMAT parquet)")
    shutil.move(f"{path}.less", path)
    made = json.loads((tmp_path / "backup" / "manifest.json").read_text())
    made["files"][path.name]["sha256"] = sha256_of(path)
    (tmp_path / "backup" / "manifest.json").write_text(json.dumps(made))
    with pytest.raises(Damaged, match="do not match the digest of the history"):
        restore(tmp_path / "new", tmp_path / "backup")
    with Catalog.open(tmp_path / "new").read() as now:
        assert not any(now.counts().values())


def test_an_older_catalog_is_refused_everywhere_in_one_line(older: Path, version: int) -> None:
    with pytest.raises(BadInput, match=rf"^[^\n]*its schema is {version}, [^\n]*`amber catalog migrate`[^\n]*$"):
        Catalog.open(older)
