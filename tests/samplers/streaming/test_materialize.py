"""Shards of a plan, read with webdataset alone."""

import gc
import json
import os
import shutil
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.full_disk import full_disk
from support.homes import label, labels, make_home
from support.pictures import packed_images

from amber.cli import run
from curation import Catalog, Task
from curation.errors import AmberError, BadInput, Damaged, Failed, NotFound
from samplers import Plan, Policy, make_pack, make_plan
from samplers.pack.pack import Pack
from samplers.streaming.materialize import materialize


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("materialize"))


@pytest.fixture(scope="module")
def pack(catalog: Catalog) -> Pack:
    return make_pack(catalog, shard_bytes=20_000)


@pytest.fixture(scope="module")
def plan(catalog: Catalog, pack: Pack) -> Plan:
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    return make_plan(catalog, policy, pack, draws=700)


def samples_of(folder: Path) -> list[dict[str, Any]]:
    import webdataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the shards to the garbage collector
        found = list(webdataset.WebDataset(sorted(map(str, folder.glob("*.tar"))), shardshuffle=False))
        gc.collect()
    return found


def test_webdataset_reads_the_draws_in_order(plan: Plan, pack: Pack, tmp_path: Path) -> None:
    done = materialize(plan, pack, tmp_path / "out", shard_bytes=100_000)
    samples = samples_of(done.folder)
    images = packed_images(pack)
    assert len(samples) == 700
    assert done.shards == len(list(done.folder.glob("*.tar"))) > 3
    assert done.bytes == sum(path.stat().st_size for path in done.folder.glob("*.tar"))
    for position, (sample, row) in enumerate(zip(samples, plan.draws.tolist(), strict=True)):
        note = json.loads(sample["json"])
        assert (sample["__key__"], note["position"]) == (f"{position:09d}", position)
        assert note["key"] == plan.keys[row].as_py()
        assert sample["jpg"] == images[note["key"]]


def test_weighted_histograms_equal_the_plan(plan: Plan, pack: Pack, tmp_path: Path) -> None:
    found: dict[tuple[str, Any], float] = {}
    for sample in samples_of(materialize(plan, pack, tmp_path / "out").folder):
        note = json.loads(sample["json"])
        assert note["labels"].keys() == note["weights"].keys()
        for task, value in note["labels"].items():
            value = value if isinstance(value, str) else float(np.float32(value))
            found[task, value] = found.get((task, value), 0.0) + note["weights"][task]
    values, known, weights = plan.labels(plan.draws, np.arange(len(plan.draws)))
    for code, task in enumerate(plan.tasks):
        for value in np.unique(values[known[:, code], code]):
            name = task.task.classes[int(value)] if task.task.classes else float(value)
            mass = weights[known[:, code] & (values[:, code] == value), code].sum(dtype=np.float64)
            assert found.pop((task.name, name)) == pytest.approx(mass, rel=1e-6)
    assert found == {}


def test_gnu_tar_takes_the_shards(plan: Plan, pack: Pack, tmp_path: Path) -> None:
    done = materialize(plan, pack, tmp_path / "out", shard_bytes=1)
    assert done.shards == 700
    listed = subprocess.run(["tar", "-tf", done.folder / "000007.tar"], capture_output=True, text=True, check=True)
    assert (listed.stdout.split(), listed.stderr) == (["000000007.jpg", "000000007.json"], "")


def test_threads_change_nothing(plan: Plan, pack: Pack, tmp_path: Path) -> None:
    for threads in (1, 3):
        materialize(plan, pack, tmp_path / str(threads), shard_bytes=50_000, threads=threads)
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "3" / path.name).read_bytes()


def test_every_member_is_plain(plan: Plan, pack: Pack, tmp_path: Path) -> None:
    done = materialize(plan, pack, tmp_path / "out")
    with tarfile.open(done.folder / "000000.tar") as archive:
        assert len([member for member in archive if member.isreg()]) == 1400


def test_an_existing_folder_is_refused(plan: Plan, pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="exists already"):
        materialize(plan, pack, tmp_path)


@pytest.mark.parametrize("numbers", [{"threads": 0}, {"threads": -1}, {"shard_bytes": 0}, {"shard_bytes": -5}])
def test_numbers_below_one_are_refused(plan: Plan, pack: Pack, tmp_path: Path, numbers: dict[str, int]) -> None:
    ((name, number),) = numbers.items()
    with pytest.raises(BadInput, match=f"{name} {number}: at least 1"):
        materialize(plan, pack, tmp_path / "out", **numbers)


# What may be wrong with the pack, and with the process


@pytest.fixture
def copied(pack: Pack, tmp_path: Path) -> Pack:
    """A copy of the pack, to be damaged."""
    shutil.copytree(pack.home, tmp_path / "copied")
    return Pack.open(tmp_path / "copied", pack.hash)


def beyond(pack: Pack, shard: Path) -> Pack:
    """The pack with every shard truncated to one header, as if its index were another pack's."""
    for path in shard.parent.iterdir():
        os.truncate(path, 512)
    return replace(pack, shards=tuple(replace(part, size=512) for part in pack.shards))


def missing(pack: Pack, shard: Path) -> Pack:
    shard.unlink()
    return pack


def cut_off(pack: Pack, shard: Path) -> Pack:
    os.truncate(shard, 600)
    return pack


def unreadable(pack: Pack, shard: Path) -> Pack:
    """A symlink loop: root could read a file without permissions."""
    shard.unlink()
    shard.symlink_to(shard)
    return pack


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (beyond, Damaged, "has no bytes .* the index is another pack's"),
        (missing, NotFound, "this shard of the pack is missing"),
        (cut_off, Damaged, "600 bytes, must be"),
        (unreadable, Failed, "not opened .*; fix its permissions"),
    ],
)
def test_a_damaged_pack_is_reported_by_shard_and_key(
    plan: Plan, copied: Pack, tmp_path: Path, harm: Callable[[Pack, Path], Pack], error: type[Exception], message: str
) -> None:
    first = int(plan.draws[0])
    name = copied.shards[int(plan.shard[first])].name
    harmed = harm(copied, copied.home / "shards" / name)
    with pytest.raises(error, match=f"^{plan.keys[first]}: .*{name}:? .*{message}"):
        materialize(plan, harmed, tmp_path / "out", threads=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copied"]


KILLED = """
import os, signal, sys
from pathlib import Path
from samplers import Pack, Plan
from samplers.streaming import materialize
real = materialize._write
def write(*args):
    real(*args)
    os.kill(os.getpid(), signal.SIGKILL)
materialize._write = write
plan = Plan.open(Path(sys.argv[1]), sys.argv[2])
materialize.materialize(plan, Pack.open(sys.argv[1], plan.pack_hash), Path(sys.argv[3]))
"""


def test_leftovers_of_a_killed_run_are_removed(plan: Plan, pack: Pack, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, pack.home, plan.hash, tmp_path / "out"]
    assert subprocess.run(command, check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".part")
    materialize(plan, pack, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_verb_materializes_the_newest_plan(plan: Plan, catalog: Catalog, tmp_path: Path) -> None:
    words = ["plan", "materialize", str(tmp_path / "out"), "--home", str(catalog.home), "--plan", plan.hash[:8]]
    assert run(words) == 0
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["draws"] == 700
    assert run(words) == 2


# Tasks with several classes on an image


SIGNS = Task(name="signs", kind="multilabel", classes=("common", "seldom", 'a"b'), owner="eve")
HELD = [["common"], ["common", "seldom"], [], ['a"b', "common"]]
LIGHT = {"class": "light", "x": 1.5, "y": 2.0, "w": 3.0, "h": 1 / 3}
BOXES = [[], [LIGHT, LIGHT | {"x": 9.0}], [LIGHT | {"attributes": {"lens": 'rote "Eins"'}}]]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = make_home(tmp_path_factory.mktemp("several"), samples=60)
    keys = [f"pictures/{number:05d}" for number in range(4, 40)]
    signs = [{**label(key, "signs", None), "state": "known", "names": HELD[i % 4]} for i, key in enumerate(keys)]
    boxes = [label(key, "things", BOXES[i % 3]) for i, key in enumerate(keys)]
    with catalog.commit(author="ada", message="several") as change:
        change.add_tasks([SIGNS])
        change.add_labels(labels(signs + boxes), source="import")
    return catalog


def test_lists_of_classes_and_boxes_equal_the_catalog(several: Catalog, tmp_path: Path) -> None:
    part = {"owner": "ada", "share": 1 / 3, "importance": 1 / 3}
    policy = Policy.model_validate({"task": dict.fromkeys(("signs", "things", "color"), part)})
    pack = make_pack(several)
    plan = make_plan(several, policy, pack, draws=200)
    seen = set()
    for sample in samples_of(materialize(plan, pack, tmp_path / "out").folder):
        note = json.loads(sample["json"])
        assert json.dumps(note).encode() == sample["json"]
        i = int(note["key"].removeprefix("pictures/")) - 4
        assert note["labels"].keys() == note["weights"].keys()
        if 0 <= i < 36:
            assert sorted(note["labels"]["signs"]) == sorted(HELD[i % 4])
            assert note["labels"]["things"] == BOXES[i % 3]
            seen.add((i % 4, i % 3))
    assert len(seen) == 12


@pytest.mark.parametrize("limit", [0, 4_096, 50_000])
def test_a_full_disk_leaves_nothing(plan: Plan, pack: Pack, limit: int, tmp_path: Path) -> None:
    with full_disk(limit), pytest.raises((AmberError, OSError), match=r"too large|[Ss]pace"):
        materialize(plan, pack, tmp_path / "out", shard_bytes=100_000)
    assert list(tmp_path.iterdir()) == []
