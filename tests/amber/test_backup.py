"""`amber backup` and `amber restore`: a workspace comes back whole, or nothing of it does."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.buckets import serving_bucket
from support.full_disk import full_disk
from support.homes import label, labels
from support.older_catalogs import downgrade, export_older
from support.planted_runs import plant_run, planted_home

from amber.backup import back_up, restore_workspace
from amber.cli import run
from amber.forget import forget
from amber.service.tokens import Tokens
from amber.verification import verify_files
from curation import AmberError, BadInput, Catalog, Damaged, Failed, NotFound
from curation.catalog.admin.backup import export
from curation.catalog.admin.verification import verify
from curation.catalog.held_back_labels import hold_back
from curation.catalog.ownership import Identity
from curation.images.embeddings import writing
from samplers.pack.pack import Pack
from samplers.plan.build import make_plan
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy
from training.run import Run

KEY = "pictures/00013"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:werkzeug", "ignore::DeprecationWarning:botocore")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A workspace with a forgotten image, two plans, a run, features, held-back labels, a policy and a token."""
    catalog, plan = planted_home(tmp_path_factory.mktemp("backup"))
    home = catalog.home
    plant_run(catalog, plan, "run", lambda task: np.full((800, len(task.classes)), 1 / len(task.classes)))
    with writing(home, "model", plan.keys.to_pylist(), [("all", 3)]) as vectors:
        vectors[:] = 1
    hold_back(home, labels([label(KEY, "bike", True, "oracle")]))
    with catalog.read() as now:
        make_plan(catalog, Policy.for_labelled(now), Pack.open(home, plan.pack_hash), draws=128)
    for place, path in enumerate(sorted(home.glob("plans/*/plan.json"), reverse=True)):
        os.utime(path, (1_000 + place, 1_000 + place))  # the newest is the one that is copied first
    with catalog.commit(author="ada", message="policy") as change:
        policy = Policy.for_labelled(change.now)
        change.set_policy(policy.model_dump_json(), policy.sha256, by=Identity(name="ada", via="user"))
    Tokens(home).add("ann", "read")
    forget(catalog, "pictures/00002", author="ada")
    (home / "labeling").mkdir()
    (home / "mine.txt").write_text("a file of the user's")
    return catalog


@pytest.fixture(scope="module")
def backup(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backed-up") / "backup"
    done = back_up(catalog, folder)
    assert done.left_out == ("labeling/", "mine.txt", "service.forgotten", "service.key")
    return folder


def files(home: Path) -> dict[str, bytes]:
    """The files of a workspace that a backup is to bring back, by path."""
    out = ("catalog.", "labeling", "mine.txt", "service.forgotten", "service.key", "packs/.work")
    found = {str(path.relative_to(home)): path for path in home.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(out) and ".lock" not in name}


def content(home: Path) -> dict[str, object]:
    with Catalog.open(home).read() as now:
        tasks = {task: now.labels(task).to_pylist() for task in now.tasks()}
        return {**tasks, "digest": now.digest, "counts": now.counts(), "policy": now.ownership.policy()}


def faults(home: Path) -> list[str]:
    catalog = Catalog.open(home)
    return [check.fault for check in (*verify(catalog), *verify_files(home)) if check.fault]


def test_a_restored_workspace_equals_the_original(catalog: Catalog, backup: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    restore_workspace(home, backup)
    assert files(home) == files(catalog.home)
    assert (content(home), faults(home)) == (content(catalog.home), [])
    assert Plan.newest(home).hash == Plan.newest(catalog.home).hash
    assert Run.open(home, "run").plan in {path.name for path in (home / "plans").iterdir()}
    assert Tokens(home).all() == Tokens(catalog.home).all()
    assert (home / "service.json").stat().st_mode & 0o777 == 0o600
    assert not (home / "service.key").exists()
    assert b"secret" not in b"".join(path.read_bytes() for path in backup.rglob("service*"))


def test_a_forgotten_image_stays_forgotten(backup: Path, tmp_path: Path) -> None:
    restore_workspace(tmp_path / "home", backup)
    with Catalog.open(tmp_path / "home").read() as now:
        assert now.forgotten(now.samples()["key"]) == []
        assert now.forgotten(pa.array(["pictures/00002"])) == ["pictures/00002"]
    assert all(b"pictures/00002" not in path.read_bytes() for path in backup.rglob("*") if path.is_file())


def test_on_the_command_line(catalog: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, folder = str(tmp_path / "home"), str(tmp_path / "backup")
    assert run(["backup", folder, "--home", str(catalog.home), "--json"]) == 0
    assert run(["restore", folder, "--home", home, "--json"]) == 0
    made, back = (json.loads(part) for part in capsys.readouterr().out.split("}\n{") for part in [part.strip("{}\n")]
                  for part in ["{" + part + "}"])  # fmt: skip
    assert (made["digest"], made["files"], made["bytes"]) == (back["digest"], back["files"], back["bytes"])
    assert run(["backup", folder, "--home", home]) == 2
    assert run(["restore", folder, "--home", home]) == 2
    assert run(["restore", str(tmp_path / "nothing"), "--home", str(tmp_path / "b")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert [
        line for line in lines if "already exists" in line or "not empty" in line or "not a backup" in line
    ] == lines


def test_shards_by_reference(catalog: Catalog, tmp_path: Path) -> None:
    for pack in (Pack.open(catalog.home, path.parent.name) for path in catalog.home.glob("packs/*/manifest.json")):
        for shard in pack.shards:
            (tmp_path / "place" / "shards").mkdir(parents=True, exist_ok=True)
            shutil.copy(catalog.home / "shards" / shard.name, tmp_path / "place" / "shards")
    place = str(tmp_path / "place")
    back_up(catalog, tmp_path / "backup", packs=place)
    assert not (tmp_path / "backup" / "files" / "shards").exists()
    restore_workspace(tmp_path / "home", tmp_path / "backup")
    assert files(tmp_path / "home") == files(catalog.home)
    (tmp_path / "place").rename(tmp_path / "moved")
    with pytest.raises(Damaged, match=r"this shard is missing; restore it, or name another place with --packs"):
        restore_workspace(tmp_path / "second", tmp_path / "backup")
    assert not (tmp_path / "second").exists()
    shard = sorted((tmp_path / "moved" / "shards").iterdir())[0]
    flip(shard)
    with pytest.raises(Damaged, match=r"is not what was packed; restore it, or name another place"):
        restore_workspace(tmp_path / "second", tmp_path / "backup", packs=str(tmp_path / "moved"))
    flip(shard)
    restore_workspace(tmp_path / "second", tmp_path / "backup", packs=str(tmp_path / "moved"))
    assert files(tmp_path / "second") == files(catalog.home)
    with pytest.raises(NotFound, match="has no shard"):
        back_up(catalog, tmp_path / "another", packs=place)
    assert not (tmp_path / "another").exists()


def test_shards_by_reference_to_object_storage(catalog: Catalog, tmp_path: Path) -> None:
    with serving_bucket("backups") as url:
        for path in catalog.home.glob("packs/*/manifest.json"):
            Pack.open(catalog.home, path.parent.name).copy_to(f"{url}/team")
        back_up(catalog, tmp_path / "backup", packs=f"{url}/team")
        restore_workspace(tmp_path / "home", tmp_path / "backup")
    assert files(tmp_path / "home") == files(catalog.home)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def change(folder: Path, **what: object) -> None:
    path = folder / "backup.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **what}))


def some(folder: Path, pattern: str) -> Path:
    return sorted((folder / "files").glob(pattern))[0]


HARMS: dict[str, tuple[Callable[[Path], object], type[AmberError], str]] = {
    "a shard that was altered": (lambda f: flip(some(f, "shards/*")), Damaged, "differs from what was written"),
    "a shard that is missing": (lambda f: some(f, "shards/*").unlink(), Damaged, "is missing from the backup"),
    "a pack that is missing": (lambda f: shutil.rmtree(f / "files" / "packs"), Damaged, "is missing from the backup"),
    "a truncated plan": (lambda f: os.truncate(some(f, "plans/*/draws.parquet"), 9), Damaged, "differs from what"),
    "altered predictions": (lambda f: flip(some(f, "runs/*/predictions.parquet")), Damaged, "differs from what"),
    "an altered table": (lambda f: flip(f / "catalog" / "sample.parquet"), Damaged, "differs from what was written"),
    "a catalog of another backup": (lambda f: another(f), Damaged, "is of another backup than"),
    "no catalog": (lambda f: shutil.rmtree(f / "catalog"), NotFound, "is not a backup"),
    "a manifest that was altered": (lambda f: change(f, commit=1), Damaged, "differs from what was written"),
    "half a manifest": (lambda f: os.truncate(f / "backup.json", 99), Damaged, "cannot be read"),
    "no manifest": (lambda f: (f / "backup.json").unlink(), NotFound, "is not a backup"),
    "a newer form": (lambda f: change(f, format=9), BadInput, "its format is 9, this Amber knows 1; use a newer"),
    "a newer schema": (lambda f: schema(f, 99), BadInput, "its schema is 99, this Amber knows"),
}


def another(folder: Path) -> None:
    shutil.rmtree(folder / "catalog")
    export(Catalog.create(folder.parent / "empty"), folder / "catalog")
    shutil.rmtree(folder.parent / "empty")


def schema(folder: Path, version: int) -> None:
    path = folder / "catalog" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": version}))


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_backup_restores_nothing(harm: str, backup: Path, tmp_path: Path) -> None:
    shutil.copytree(backup, tmp_path / "backup")
    work, error, message = HARMS[harm]
    work(tmp_path / "backup")
    with pytest.raises(error, match=rf"^[^\n]*{message}[^\n]*$"):
        restore_workspace(tmp_path / "home", tmp_path / "backup")
    assert sorted(os.listdir(tmp_path)) == ["backup"]


def test_a_path_out_of_the_workspace_is_refused(backup: Path, tmp_path: Path) -> None:
    from amber.backup import _digest

    shutil.copytree(backup, tmp_path / "backup")
    (tmp_path / "backup" / "evil").write_text("evil")
    made = json.loads((tmp_path / "backup" / "backup.json").read_text())
    del made["sha256"]
    made["files"] = {"../../evil": {"sha256": "0", "bytes": 4, "changed": 0}}
    (tmp_path / "backup" / "backup.json").write_text(json.dumps({**made, "sha256": _digest(made)}))
    with pytest.raises(Damaged, match="lies outside the workspace"):
        restore_workspace(tmp_path / "home", tmp_path / "backup")


def test_a_target_that_is_not_empty(catalog: Catalog, backup: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    restore_workspace(tmp_path / "home", backup)  # an empty folder is fine
    before = files(tmp_path / "home")
    for target in (tmp_path / "home", backup / "backup.json", catalog.home):
        with pytest.raises(BadInput, match="is not empty; name a new folder"):
            restore_workspace(target, backup)
    assert files(tmp_path / "home") == before
    for folder, why in ((backup, "already exists"), (catalog.home / "inside", "lies in the workspace")):
        with pytest.raises(BadInput, match=why):
            back_up(catalog, folder)
    with pytest.raises(BadInput, match="a backup of a catalog alone; use `amber catalog import`"):
        restore_workspace(tmp_path / "third", backup / "catalog")
    with pytest.raises(BadInput, match="this backup holds its shards"):
        restore_workspace(tmp_path / "third", backup, packs="s3://elsewhere")


def test_a_full_disk_leaves_nothing(catalog: Catalog, backup: Path, tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"^[^\n]*free space[^\n]*$"), full_disk(30_000):
        back_up(catalog, tmp_path / "backup")
    with pytest.raises(Failed, match=r"^[^\n]*free space[^\n]*$"), full_disk(30_000):
        restore_workspace(tmp_path / "home", backup)
    assert os.listdir(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from amber.backup import back_up, restore_workspace
from curation import Catalog
def stop(stage, done, total):
    if stage == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "copy":
    back_up(Catalog.open(sys.argv[2]), Path(sys.argv[3]), progress=stop)
else:
    restore_workspace(Path(sys.argv[3]), Path(sys.argv[2]), progress=stop)
"""


@pytest.mark.parametrize("stage", ["copy", "restore"])
def test_a_killed_one_leaves_nothing_that_looks_whole(
    stage: str, catalog: Catalog, backup: Path, tmp_path: Path
) -> None:
    source, target = catalog.home if stage == "copy" else backup, tmp_path / "target"
    done = subprocess.run([sys.executable, "-c", KILLED, stage, str(source), str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(list(tmp_path.glob("target.*.part"))) == 1
    if stage == "copy":
        back_up(catalog, target)
    else:
        restore_workspace(target, backup)
    assert os.listdir(tmp_path) == ["target"]


def test_a_source_that_is_damaged_or_changes(catalog: Catalog, backup: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    restore_workspace(home, backup)
    shard = sorted((home / "shards").iterdir())[0]
    data = shard.read_bytes()
    for harm, message in ((flip, "is not what was packed"), (Path.unlink, "this shard of a pack is missing")):
        harm(shard)
        with pytest.raises(Damaged, match=rf"^[^\n]*{message}[^\n]*$"):
            back_up(Catalog.open(home), tmp_path / "second")
        shard.write_bytes(data)
    predictions = home / "runs" / "run" / "predictions.parquet"
    flip(predictions)
    with pytest.raises(Failed, match="is not what run run was judged by"):
        back_up(Catalog.open(home), tmp_path / "second")
    predictions.unlink()
    with pytest.raises(Damaged, match="is missing; evaluate run run again"):
        back_up(Catalog.open(home), tmp_path / "second")
    assert sorted(os.listdir(tmp_path)) == ["home"]


@pytest.mark.parametrize("version", [2, 3])
def test_a_backup_of_an_older_schema(version: int, backup: Path, tmp_path: Path) -> None:
    """The catalog's part of a backup as an older Amber wrote it, beside files of today."""
    restore_workspace(tmp_path / "home", backup)
    kept = content(tmp_path / "home")
    downgrade(tmp_path / "home", version)
    shutil.copytree(backup, tmp_path / "backup", ignore=shutil.ignore_patterns("catalog"))
    export_older(tmp_path / "home", version, tmp_path / "backup" / "catalog")
    restore_workspace(tmp_path / "second", tmp_path / "backup")
    assert {**content(tmp_path / "second"), "policy": "", "counts": {}} == {**kept, "policy": "", "counts": {}}
