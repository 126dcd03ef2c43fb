"""`amber prune`: what anything refers to stays, the rest goes, and nothing that is in use."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.homes import label, labels, make_home
from support.killed import leave_half

from amber import prune as prune_module
from amber.cli import run
from amber.forget import forget
from amber.prune import DAY, prune, unneeded
from amber.verification import verify_files
from curation import Busy, Catalog, Damaged, Failed
from curation.catalog.ownership import Identity
from curation.files.locks import in_use, locked
from curation.images.embeddings import add_vectors, writing
from samplers import stream
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import make_pack, pack_lock
from samplers.plan.build import draft_plan, make_plan
from samplers.plan.plan import Plan
from samplers.plan.replan import draft_child
from samplers.policy.policy import Policy
from training.live_run import LiveRun
from training.recipe import Recipe
from training.run import Run

KEY = "pictures/00013"
ANN = Identity(name="ann", via="user")


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return make_home(tmp_path, samples=60)


def planned(catalog: Catalog, seed: int, *, pack: Pack | None = None, draws: int = 64) -> Plan:
    """A plan that gets older than all later ones."""
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    plan = make_plan(catalog, policy, pack or make_pack(catalog), draws=draws, seed=seed)
    os.utime(plan.folder / "plan.json", (1_000 + seed, 1_000 + seed))
    return plan


def trained(catalog: Catalog, plan: Plan, name: str, recipe: Recipe | None = None, *, parent: str = "") -> Run:
    """A run with a checkpoint, which the catalog knows; its commit's batch is `name`."""
    run = Run(id=name, plan=plan.hash, commit=1, recipe=recipe or Recipe(), parent=parent)
    run.save(catalog.home)
    folder = catalog.home / "runs" / name
    (folder / "checkpoints").mkdir()
    with zipfile.ZipFile(folder / "checkpoints" / "last.pt", "w") as archive:  # as torch writes it
        archive.writestr("weights", b"weights" * 100)
    pq.write_table(pa.table({"key": [KEY]}), folder / "predictions.parquet")
    with catalog.commit(author="ada", message="run", batch=name) as change:
        change.add_run(name, plan=plan.hash, predictions=f"runs/{name}/predictions.parquet", sha256="0")
    return run


def embedded(catalog: Catalog, recipe: Recipe) -> str:
    with writing(catalog.home, recipe.embeddings, [KEY], [("global", 3)]) as vectors:
        vectors[:] = 1
    return recipe.embeddings


def paths(catalog: Catalog, **choice: bool) -> set[str]:
    return {part.path for part in unneeded(catalog, older=0, **choice)}


def test_plans_that_something_refers_to_stay(catalog: Catalog) -> None:
    unused, of_run, signed, before, parent, newest = (planned(catalog, seed) for seed in range(6))
    trained(catalog, of_run, "run")
    child = draft_child(parent, 32, Policy.model_validate(parent.header["policy"]), catalog).save()
    trained(catalog, child, "child")
    with catalog.commit(author="ada", message="sign") as change:
        change.sign_off("ada", plan=signed.hash, before=before.hash, policy="0", by=ANN)
    last = planned(catalog, 6)
    (last.folder / "plan.json").touch()
    assert paths(catalog) == {f"plans/{plan.hash}" for plan in (unused, newest)}
    assert {part.path for part in prune(catalog, older=0)} == {f"plans/{plan.hash}" for plan in (unused, newest)}
    left = {path.name for path in (catalog.home / "plans").iterdir()}
    assert left == {plan.hash for plan in (of_run, signed, before, parent, child, last)}
    assert paths(catalog) == set()


def test_plans_that_a_training_derived_stay_with_its_run(catalog: Catalog) -> None:
    plan, unused = planned(catalog, 1), planned(catalog, 2)
    policy = Policy.model_validate(plan.header["policy"])
    derived = draft_child(plan, 32, policy, catalog).save(by="training", derived=True)
    assert Plan.newest(catalog.home).hash == unused.hash
    assert f"plans/{derived.hash}" in paths(catalog)
    run = trained(catalog, plan, "run")
    replace(run, course=[(0, plan.hash), (32, derived.hash)]).save(catalog.home)
    assert f"plans/{derived.hash}" not in paths(catalog)


def test_plans_under_the_policy_in_force_stay(catalog: Catalog) -> None:
    plan = planned(catalog, 1)
    with catalog.read() as now:
        even = Policy.for_labelled(now)
    other = draft_plan(catalog, even.without("bike"), make_pack(catalog), draws=64).save()
    assert paths(catalog) == {f"plans/{plan.hash}"}
    with catalog.commit(author="ada", message="policy") as change:
        change.set_policy(even.model_dump_json(), even.sha256, by=ANN)
    assert paths(catalog) == set()
    assert Plan.newest(catalog.home).hash == other.hash


def grown(catalog: Catalog) -> None:
    """Exclude a sample, so that the next pack is another one."""
    with catalog.commit(author="ada", message="out") as change:
        keys = change.now.samples().filter(pc.invert(change.now.samples()["excluded"]))["key"].to_pylist()
        change.add_attributes(pa.table({"key": keys[-1:], "excluded": [True]}))


def test_packs_and_shards_of_plans_stay(catalog: Catalog) -> None:
    used = make_pack(catalog, shard_bytes=20_000)
    trained(catalog, planned(catalog, 1, pack=used), "run")
    grown(catalog)
    between = make_pack(catalog)
    grown(catalog)
    today = make_pack(catalog)
    planned(catalog, 2, pack=today)
    assert paths(catalog) == {f"packs/{between.hash}"}
    stray = catalog.home / "shards" / f"{'0' * 64}.tar"
    stray.write_bytes(bytes(5_000))
    (found,) = (part for part in prune(catalog, older=0) if part.kind == "shard")
    assert (found.path, found.bytes, found.why) == (f"shards/{stray.name}", 5_000, "no pack that is kept holds it")
    assert not stray.exists()
    for pack in (used, today):
        Pack.open(catalog.home, pack.hash).verify()
    assert [check.fault for check in verify_files(catalog.home) if check.fault] == []


def test_shards_of_an_unfinished_pack_stay(catalog: Catalog) -> None:
    make_pack(catalog)
    name = f"{'1' * 64}.tar"
    (catalog.home / "shards" / name).write_bytes(b"a shard of part 2 of 8")
    work = catalog.home / "packs" / ".work" / "abc"
    work.mkdir(parents=True)
    (work / "000001.note").write_text(name)
    assert paths(catalog) == set()


def test_features_that_a_run_or_the_latest_loop_reads_stay(catalog: Catalog) -> None:
    plan = planned(catalog, 1)
    small = Recipe(trunk="small", heads="drawn", size=(32, 32))
    for loop in ("old", "new"):
        trained(catalog, plan, f"loop:{loop}:0:evaluate", small)
    recipes = [
        Recipe(), Recipe(size=(64, 64)), *(small.features(f"loop:{loop}:0:evaluate") for loop in ("old", "new")),
    ]  # fmt: skip
    kept, other, old, new = (embedded(catalog, recipe) for recipe in recipes if recipe)
    trained(catalog, plan, "run", Recipe())
    add_vectors(catalog.home, "clip", pa.table({"key": [KEY], "vector": [[1.0, 2.0]]}))
    assert paths(catalog) == {f"embeddings/{other}", f"embeddings/{old}"}
    assert kept != new


def test_checkpoints(catalog: Catalog) -> None:
    plan = planned(catalog, 1)
    for name, parent in (("a", ""), ("b", "a"), ("loop:x:0:evaluate", "b"), ("c", ""), ("d", "")):
        trained(catalog, plan, name, parent=parent)
    (catalog.home / "runs" / "half" / "checkpoints").mkdir(parents=True)
    assert paths(catalog) == {"runs/half/checkpoints"}
    assert paths(catalog, checkpoints=True) == {"runs/half/checkpoints", "runs/c/checkpoints"}
    prune(catalog, older=0, checkpoints=True)
    assert Run.open(catalog.home, "c").plan == plan.hash


def test_weights_whose_features_a_run_reads_stay_however_it_names_them(catalog: Catalog) -> None:
    plan = planned(catalog, 1)
    for name, trunk in (("first", "small"), ("other", "small"), ("second", "run:fir")):
        trained(catalog, plan, name, Recipe(trunk=trunk, heads="drawn", size=(32, 32)))
    assert paths(catalog, checkpoints=True) == {"runs/other/checkpoints"}


def test_a_forgotten_image_is_really_gone(catalog: Catalog) -> None:
    """Weights and features of runs that learned from it, replaced packs, and what a killed `forget` left."""
    with catalog.commit(author="ada", message="label") as change:
        change.add_labels(labels([label(KEY, "color", "red")]), source="human")
        samples = change.now.samples()
        path = samples.filter(pc.equal(samples["key"], KEY))["location"][0].as_py()
    image = Path(path).read_bytes()[-250:-50]
    trained(catalog, planned(catalog, 1), "first")
    small = Recipe(trunk="run:first", heads="drawn", size=(32, 32))
    trained(catalog, planned(catalog, 2), "second", small)
    features = embedded(catalog, small)
    shard = sorted((catalog.home / "shards").iterdir())[0]
    shutil.copy(shard, catalog.home / "shards" / "killed.tar.forget")
    forget(catalog, KEY, author="ada")
    found = prune(catalog, older=0)
    assert {"runs/first/checkpoints", "runs/second/checkpoints", f"embeddings/{features}"} <= {p.path for p in found}
    kept = [path for path in catalog.home.rglob("*") if path.is_file()]
    assert [path for path in kept if image in path.read_bytes() or KEY.encode() in path.read_bytes()] == []


def test_what_changed_lately_stays(catalog: Catalog) -> None:
    old = planned(catalog, 0)
    (planned(catalog, 1).folder / "plan.json").touch()
    assert unneeded(catalog, older=DAY) == []
    for path in (old.folder, *old.folder.iterdir()):
        os.utime(path, (time.time() - 2 * DAY,) * 2)
    assert [part.path for part in unneeded(catalog, older=DAY)] == [f"plans/{old.hash}"]
    assert [part.path for part in unneeded(catalog, older=3 * DAY)] == []


def test_folders_of_another_workspace_stay(catalog: Catalog, tmp_path: Path) -> None:
    make_pack(catalog)
    other = Catalog.create(tmp_path / "other")
    for name in ("shards", "embeddings", "plans", "packs"):
        (catalog.home / name).mkdir(exist_ok=True)
        (other.home / name).symlink_to(catalog.home / name)
    embedded(catalog, Recipe())
    assert unneeded(other, older=0) == []


def test_leftovers_of_killed_processes_go(catalog: Catalog) -> None:
    left = leave_half(catalog.home / "plans" / "abc")
    running = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    theirs = left.with_name(left.name.replace(left.name.split(".")[-3], str(running.pid)))
    theirs.write_text("half")
    assert paths(catalog) == {str(left.relative_to(catalog.home))}
    prune(catalog, older=0)
    assert (left.exists(), theirs.exists()) == (False, True)
    running.communicate()


def test_notes_of_trainings_that_were_never_finished_go(catalog: Catalog) -> None:
    for name in ("half", "whole"):
        LiveRun.begin(catalog.home / "runs" / name, plan="", parent="", solved=False).step(1, 2)
    Run(id="whole", plan="", commit=0, recipe=Recipe()).save(catalog.home)
    assert paths(catalog) == {"runs/half/live.json"}


@contextmanager
def another_process(catalog: Catalog, code: str) -> Iterator[None]:
    """A process that runs `code` with the workspace `home`, and then waits."""
    words = [sys.executable, "-c", f"import sys\nfrom pathlib import Path\nhome = Path(sys.argv[1])\n{code}"]
    with subprocess.Popen(
        [*words, str(catalog.home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        yield
        other.communicate("\n")


STREAM = """
from samplers import stream
from samplers.plan.plan import Plan
with stream(Plan.newest(home), home, 8, size=(24, 32)) as batches:
    next(iter(batches))
    print("ready", flush=True)
    input()
"""


def test_nothing_goes_while_another_process_reads(catalog: Catalog) -> None:
    unused = planned(catalog, 0)
    planned(catalog, 1)
    with another_process(catalog, STREAM), pytest.raises(Busy, match=r"^[^\n]*uses its plans, packs, [^\n]*$"):
        prune(catalog, older=0)
    assert unused.folder.exists()
    assert len(prune(catalog, older=0)) == 1


@pytest.mark.parametrize("what", ["use", "loop", "pack", "stream"])
def test_nothing_goes_while_something_runs_here(what: str, catalog: Catalog) -> None:
    unused, newest = planned(catalog, 0), planned(catalog, 1)
    with ExitStack() as held:
        if what == "stream":
            next(
                iter(
                    held.enter_context(
                        closing(stream(newest, Pack.open(catalog.home, newest.pack_hash), 8, size=(24, 32)))
                    )
                )
            )
        else:
            lock = {
                "use": lambda: in_use(catalog.home), "pack": lambda: pack_lock(catalog.home),
                "loop": lambda: locked(catalog.home / "loop.lock", str),
            }[what]  # fmt: skip
            held.enter_context(lock())
        with pytest.raises(Busy):
            prune(catalog, older=0)
    assert unused.folder.exists()
    assert len(prune(catalog, older=0)) == 1


def test_users_wait_while_it_prunes(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    from curation.files import locks

    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    plan = planned(catalog, 1)
    with locks.not_in_use(catalog.home), pytest.raises(Busy, match=r"process \d+ prunes there; wait for it"):
        stream(plan, Pack.open(catalog.home, plan.pack_hash), 8, size=(24, 32))


def test_dry_by_default(catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    unused = planned(catalog, 0)
    planned(catalog, 1)
    words = ["prune", "--home", str(catalog.home), "--older", "0"]
    assert run([*words, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["removed"], [part["path"] for part in shown["entries"]]) == (False, [f"plans/{unused.hash}"])
    assert shown["bytes"] == sum(path.stat().st_size for path in unused.folder.iterdir())
    assert run(words) == 0
    assert "Nothing was removed" in capsys.readouterr().out
    assert unused.folder.exists()
    assert run([*words, "--yes"]) == 0
    assert "Removed 1 entries" in capsys.readouterr().out
    assert not unused.folder.exists()
    assert run(words) == 0
    assert capsys.readouterr().out == "nothing to remove\n"


def test_a_damaged_workspace_is_not_pruned(catalog: Catalog) -> None:
    planned(catalog, 0)
    trained(catalog, planned(catalog, 1), "run")
    (catalog.home / "runs" / "run" / "run.json").write_text("{")
    with pytest.raises(Damaged, match=r"run\.json"):
        prune(catalog, older=0)
    assert len(list((catalog.home / "plans").iterdir())) == 2


def test_a_disk_that_refuses_is_one_line(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(catalog, 0)
    planned(catalog, 1)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(prune_module.shutil, "rmtree", refuse)
    with pytest.raises(Failed, match=r"not removed \(Permission denied\); fix its permissions"):
        prune(catalog, older=0)
    monkeypatch.undo()
    assert len(prune(catalog, older=0)) == 1  # without its header it counts as unfinished
    assert np.all([check.fault == "" for check in verify_files(catalog.home)])
