"""Training from materialized shards, through webdataset: the same batches, the same weights, or one line."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.homes import make_home

from amber.cli import run as amber
from curation import AmberError, BadInput, Catalog, Damaged
from samplers import Plan, Policy, make_pack, make_plan, stream
from samplers.pack.pack import Pack
from samplers.streaming.materialize import materialize
from training.loop.shard_feed import Shards
from training.loop.trainer import train
from training.network.model import load_network
from training.recipe import Recipe

SMALL = Recipe.of("small", size=(32, 48), global_batch=32, hidden=16, threads=1)

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # webdataset leaves shards to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> Plan:
    with catalog.read() as now:
        return make_plan(catalog, Policy.for_labelled(now), make_pack(catalog), draws=300)


@pytest.fixture(scope="module")
def folder(catalog: Catalog, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("materialized") / "draws"
    materialize(plan, Pack.open(catalog.home, plan.pack_hash), place, shard_bytes=200_000)
    return place


@pytest.fixture
def shards(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "draws"))


def test_one_worker_gives_the_batches_of_the_stream(catalog: Catalog, plan: Plan, folder: Path) -> None:
    mine = list(Shards(folder=folder).batches(plan, 32, (32, 48)))
    with stream(plan, Pack.open(catalog.home, plan.pack_hash), 32, size=(32, 48), copy=True) as batches:
        theirs = list(batches)
    assert len(mine) == len(theirs) == 300 // 32
    for one, other in zip(mine, theirs, strict=True):
        assert (one.index, one.keys, one.rows.tolist()) == (other.index, other.keys, other.rows.tolist())
        for name in ("images", "values", "known", "weights", "positions"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert torch.from_numpy(one.images).is_contiguous(memory_format=torch.channels_last)


def test_training_from_shards_gives_the_weights_of_the_stream(catalog: Catalog, plan: Plan, folder: Path) -> None:
    run = train(SMALL, plan, catalog, shards=Shards(folder=folder))
    first = load_network(run, plan.tasks, catalog.home).state_dict()
    exposure = run.exposure(catalog.home)
    (catalog.home / "runs" / run.id / "run.json").unlink()
    again = train(SMALL, plan, catalog)
    second = load_network(again, plan.tasks, catalog.home).state_dict()
    assert again.id == run.id
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (run.curve, exposure, run.alarm) == (again.curve, again.exposure(catalog.home), "")


@pytest.mark.soak  # two processes that load torch
def test_two_workers_read_each_draw_once_under_another_id(catalog: Catalog, plan: Plan, folder: Path) -> None:
    two = Shards(folder=folder, workers=2)
    found = [int(at) for batch in two.batches(plan, 10, (32, 48)) for at in batch.positions]
    assert sorted(found) == list(range(300)) != found
    assert two.order == f"{len(list(folder.glob('*.tar')))} shards, 2 workers"
    assert Shards(folder=folder, workers=1).order == Shards(folder=folder).order == ""


def rewritten(shard: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Rewrite a shard, each member as `change` of its name and bytes; None leaves it out."""
    with tarfile.open(shard) as old:
        members = [(member.name, old.extractfile(member).read()) for member in old]  # type: ignore[union-attr]
    with tarfile.open(shard, "w") as new:
        for name, data in members:
            if (kept := change(name, data)) is not None:
                entry = tarfile.TarInfo(name)
                entry.size = len(kept)
                new.addfile(entry, io.BytesIO(kept))


def first_shard(folder: Path) -> Path:
    return sorted(folder.glob("*.tar"))[0]


def header(folder: Path, **what: object) -> None:
    path = folder / "plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **what}))


def cut(folder: Path) -> None:
    data = first_shard(folder).read_bytes()
    first_shard(folder).write_bytes(data[: len(data) // 2])


def other_key(name: str, data: bytes) -> bytes:
    if not name.endswith(".json"):
        return data
    return json.dumps({**json.loads(data), "key": "another"}).encode()


HARMS: dict[str, tuple[Callable[[Path], object], type[AmberError], str]] = {
    "no plan": (lambda f: (f / "plan.json").unlink(), BadInput, "holds no materialized plan"),
    "another plan": (lambda f: header(f, plan="abc"), BadInput, "is of plan abc, not of"),
    "a missing shard": (lambda f: first_shard(f).unlink(), Damaged, r"has \d+ of \d+ shards"),
    "a header without a form": (lambda f: (f / "plan.json").write_text("[1"), Damaged, "cannot be read"),
    "a truncated shard": (cut, Damaged, "a shard cannot be read|draws"),
    "a shard of zeros": (lambda f: first_shard(f).write_bytes(bytes(10_240)), Damaged, "draws|cannot be read"),
    "a missing draw": (
        lambda f: rewritten(first_shard(f), lambda name, data: None if name.startswith("000000003") else data),
        Damaged, "has 299 of 300 draws",
    ),
    "a draw of another image": (lambda f: rewritten(first_shard(f), other_key), Damaged, "is not the plan's"),
    "a text instead of an image": (
        lambda f: rewritten(first_shard(f), lambda name, data: b"text" if name.endswith(".jpg") else data),
        Damaged, "pictures/",
    ),
    "a note that is no JSON": (
        lambda f: rewritten(first_shard(f), lambda name, data: b"{" if name.endswith(".json") else data),
        Damaged, "a shard cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_shards_are_one_line(harm: str, plan: Plan, shards: Path) -> None:
    work, error, message = HARMS[harm]
    work(shards)
    with pytest.raises(error, match=rf"^[^\n]*({message})[^\n]*$"):
        list(Shards(folder=shards).batches(plan, 10, (32, 48)))


def test_a_worker_says_what_it_found(plan: Plan, shards: Path) -> None:
    rewritten(first_shard(shards), lambda name, data: b"text" if name.endswith(".jpg") else data)
    with pytest.raises(Damaged, match=r"^[^\n]*tar: pictures/\d+ [^\n]*$"):
        list(Shards(folder=shards, workers=1).batches(plan, 10, (32, 48)))


def test_what_shards_cannot_do(catalog: Catalog, plan: Plan, folder: Path) -> None:
    with pytest.raises(BadInput, match="only a trunk that learns from pixels"):
        train(Recipe(), plan, catalog, shards=Shards(folder=folder))
    with pytest.raises(BadInput, match="a bad image cannot be replaced there"):
        train(SMALL, plan, catalog, shards=Shards(folder=folder), on_error="quarantine")
    with pytest.raises(BadInput, match=r"workers 99: from 0 to \d+, the number of shards"):
        train(SMALL, plan, catalog, shards=Shards(folder=folder, workers=99))


def test_on_the_command_line(catalog: Catalog, plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(catalog.home)]
    assert amber(["plan", "materialize", str(tmp_path / "draws"), "--shard-size", "0.1", *home]) == 0
    assert len(list((tmp_path / "draws").glob("*.tar"))) > 1
    words = ["train", "--trunk", "small", "--size", "32", "48", "--batch", "32", "--author", "ada", *home]
    capsys.readouterr()
    assert amber([*words, "--shards", str(tmp_path / "draws"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["alarm"] == ""
    assert amber([*words, "--shards", str(tmp_path / "nothing")]) == 2
    assert "holds no materialized plan" in capsys.readouterr().err
