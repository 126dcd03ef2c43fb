"""Backups, copies and checks of the catalog: a restored catalog equals the original; damage is one line."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.full_disk import full_disk
from support.homes import copy_home, label, labels, make_home
from support.killed import leave_half
from support.postgres import Server

from curation import AmberError, BadInput, Catalog, Damaged, Failed, NotFound
from curation.catalog.admin.backup import export, restore
from curation.catalog.admin.moving import copy_to
from curation.catalog.admin.verification import verify
from curation.catalog.catalog import address_of
from curation.catalog.held_back_labels import hold_back
from curation.files.read_back import sha256_of

BOX = {"class": "light", "x": 1.0, "y": 1.0, "w": 4.0, "h": 4.0, "attributes": {"lit": "yes"}}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, lake: Server | None) -> Catalog:
    """Several commits with labels of every kind; some are folded into the intervals, some not."""
    catalog = make_home(tmp_path_factory.mktemp("backup"), samples=24, lake=lake)
    say(catalog, "pictures/00001", "things", [BOX])
    catalog.compact()
    say(catalog, "pictures/00001", "color", None)
    return catalog


@pytest.fixture
def catalog(original: Catalog, tmp_path: Path, lake: Server | None) -> Catalog:
    return copy_home(original, tmp_path, lake)


@pytest.fixture(scope="module")
def backup(original: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "backup"
    export(original, folder)
    return folder


def say(catalog: Catalog, key: str, task: str, value: object) -> None:
    with catalog.commit(author="ada", message="say") as change:
        change.add_labels(labels([label(key, task, value, "ada")]), source="human")


def content(catalog: Catalog) -> dict[str, object]:
    """The whole state at every commit."""
    with catalog.read() as now:
        found: dict[str, object] = {"digest": now.digest, "counts": now.counts(), "samples": now.samples().to_pylist()}
        for commit in range(now.commit + 1):
            then = now.earlier(commit)
            found |= {f"{commit} {task}": then.labels(task).to_pylist() for task in then.tasks()}
        return found


def faults(catalog: Catalog) -> dict[str, str]:
    return {check.name: check.fault for check in verify(catalog) if check.fault}


def test_a_restored_catalog_equals_the_original(original: Catalog, backup: Path, tmp_path: Path) -> None:
    restore(tmp_path / "home", backup)
    back = Catalog.open(tmp_path / "home")
    assert content(back) == content(original)
    assert faults(back) == {}
    with pytest.raises(BadInput, match="already holds commits"):
        restore(tmp_path / "home", backup)
    say(back, "pictures/00002", "car", True)
    with pytest.raises(BadInput, match="already exists"):
        export(original, backup)


def test_a_backup_goes_to_ducklake_too(original: Catalog, backup: Path, tmp_path: Path, postgres: Server) -> None:
    Catalog.create(tmp_path / "home", url=postgres.url(tmp_path / "lake"))
    restore(tmp_path / "home", backup)
    assert content(Catalog.open(tmp_path / "home")) == content(original)


def truncate(folder: Path) -> None:
    os.truncate(folder / "label_event.parquet", 100)


def flip(folder: Path) -> None:
    data = bytearray((folder / "sample.parquet").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (folder / "sample.parquet").write_bytes(data)


def lose(folder: Path) -> None:
    (folder / "commits.parquet").unlink()


def tell(folder: Path, **what: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **what}))


def forge(folder: Path) -> None:
    """A table with one row less and a matching checksum."""

    path = folder / "label_event.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    files["label_event.parquet"]["sha256"] = sha256_of(path)
    tell(folder, files=files)


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (truncate, Damaged, "label_event.parquet: differs from what was written"),
        (flip, Damaged, "sample.parquet: differs from what was written"),
        (lose, Damaged, "commits.parquet: is missing from the backup"),
        (forge, Damaged, "do not match the digest of the history"),
        (lambda folder: tell(folder, files={}), Damaged, r"does not list head\.parquet"),
        (lambda folder: tell(folder, digest="00"), Damaged, "do not match the digest of the history"),
        (lambda folder: tell(folder, schema_version=99), BadInput, "its schema is 99, this Amber knows 1 to"),
        (lambda folder: tell(folder, schema_version=0), BadInput, "its schema is 0, this Amber knows 1 to"),
        (lambda folder: (folder / "manifest.json").write_text("{"), Damaged, "not the manifest of a backup"),
        (lambda folder: (folder / "manifest.json").unlink(), NotFound, "is not a backup"),
    ],
)
@pytest.mark.parametrize("lake", ["file"], indirect=True)
def test_a_damaged_backup(
    backup: Path, tmp_path: Path, harm: Callable[[Path], object], error: type[AmberError], message: str
) -> None:
    shutil.copytree(backup, tmp_path / "backup")
    harm(tmp_path / "backup")
    with pytest.raises(error, match=message) as caught:
        restore(tmp_path / "home", tmp_path / "backup")
    assert "\n" not in str(caught.value)
    with Catalog.create(tmp_path / "home").read() as now:
        assert not any(now.counts().values())


def test_what_a_killed_export_left_goes_with_the_next(catalog: Catalog, tmp_path: Path) -> None:
    left = leave_half(tmp_path / "backup")
    export(catalog, tmp_path / "backup")
    assert not left.exists()


def test_a_full_disk_leaves_no_half_backup(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="free space"), full_disk(1_000):
        export(catalog, tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == []


@pytest.mark.parametrize("lake", ["file"], indirect=True)
def test_a_full_disk_leaves_no_half_import(backup: Path, tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "home")
    with pytest.raises(Failed, match="nothing of this commit was written"), full_disk(1_000):
        restore(tmp_path / "home", backup)
    with catalog.read() as now:
        assert not any(now.counts().values())
    restore(tmp_path / "home", backup)


@pytest.mark.parametrize("lake", ["file"], indirect=True)
def test_a_catalog_moves_to_ducklake_and_back(catalog: Catalog, tmp_path: Path, postgres: Server) -> None:
    before = content(catalog)
    url = postgres.url(tmp_path / "moved")
    done = copy_to(catalog, url, move=True)
    assert done.digest == before["digest"]
    with pytest.raises(NotFound, match="was removed or moved after it was opened"):
        say(catalog, "pictures/00002", "car", True)
    there = Catalog.open(catalog.home)
    assert (address_of(catalog.home), content(there)) == (url, before)
    say(there, "pictures/00002", "car", True)
    with pytest.raises(BadInput, match="already stored there"):
        copy_to(there, url)
    with pytest.raises(BadInput, match="already has a catalog"):
        Catalog.create(catalog.home, url=postgres.url(tmp_path / "other"))
    with pytest.raises(BadInput, match="--move goes to a URL"):
        copy_to(there, str(tmp_path / "elsewhere"), move=True)
    copy_to(there, str(tmp_path / "elsewhere"))
    copy_to(there, str(catalog.home), move=True)
    back = Catalog.open(catalog.home)
    assert content(back) == content(Catalog.open(tmp_path / "elsewhere")) == content(there)
    assert (address_of(back.home), faults(back)) == ("", {})
    with pytest.raises(BadInput, match="already holds commits"):
        copy_to(back, url)


@pytest.mark.parametrize(
    ("harm", "check", "fault"),
    [
        ("UPDATE head SET id = id + 1", "chain", "head is 4, the newest commit is 3"),
        ("DELETE FROM commits WHERE id = 2; UPDATE commits SET parent = 1 WHERE id = 3", "chain", "commit 3 follows 1"),
        ("UPDATE commits SET batch = 'b'", "chain", "batch"),
        ("UPDATE sample SET key = 'same'", "keys", "sample holds (key) twice: same"),
        ("UPDATE label_event SET commit_id = 99 WHERE commit_id = 1", "references", "commit_id 99"),
        ("DELETE FROM annotator WHERE name = 'ada'", "references", "label_event names annotator_id 1"),
        ("DELETE FROM sample WHERE sample_id = 1", "references", "label_event names sample_id 1"),
        ("UPDATE label_interval SET code = 1 WHERE code = 0", "intervals", "label_interval does not follow"),
        ("DELETE FROM attribute_interval", "intervals", "attribute_interval does not follow"),
    ],
)
def test_verify_finds_every_kind_of_damage(catalog: Catalog, harm: str, check: str, fault: str) -> None:
    with catalog.backend.writing() as connection:
        connection.execute(harm)
    assert fault in faults(catalog)[check]


def test_verify_finds_files_that_changed(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="run") as change:
        change.add_run("r", plan="p", predictions="runs/r/predictions.parquet", sha256="0")
    assert "is missing, run r has no predictions" in faults(catalog)["runs"]
    path = catalog.home / "runs" / "r" / "predictions.parquet"
    path.parent.mkdir(parents=True)
    path.write_text("other")
    (catalog.home / "oracle.parquet").write_text("other")
    assert "differs from what run r wrote" in faults(catalog)["runs"]
    assert "cannot be read" in faults(catalog)["oracle"]
    (catalog.home / "oracle.parquet").unlink()
    hold_back(catalog.home, labels([label("nobody", "car", True)]))
    assert "'nobody', which is not a sample" in faults(catalog)["oracle"]


def test_compaction_changes_no_result(catalog: Catalog) -> None:
    before = content(catalog)
    catalog.compact()
    assert content(catalog) == before
    assert faults(catalog) == {}
