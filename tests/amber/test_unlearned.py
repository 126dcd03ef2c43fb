"""Kinds that nothing learns yet: refused before any work where they are alone, named once beside others."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from support.homes import label, labels, sample_rows
from support.refusals import refused
from support.served import served

from amber.cli import run
from amber.loop import Loop, run_loop
from amber.service.client import Client
from amber.service.models import AskedFor
from amber.service.tokens import Tokens
from curation import BadInput, Catalog, Task
from curation.requests.proposals import Proposal, propose
from samplers import Policy

SIGNS = Task(name="signs", kind="multilabel", classes=("stop", "yield"), owner="ada")
WORDS = Task(name="words", kind="multilabel", classes=("a", "b"), owner="ada")
DARK = Task(name="dark", kind="binary", owner="ada")
SECTION = '[task.{}]\nowner = "ada"\nshare = {}\nimportance = {}\n'
LEARNED = "no head learns this kind yet"


def make(folder: Path, *tasks: Task) -> Catalog:
    """Twelve pictures with one class each, and a flag where there is a binary task."""
    catalog = Catalog.create(folder / "home")
    paths = [folder / f"{number}.png" for number in range(12)]
    for number, path in enumerate(paths):
        Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8)).save(path)
    keys = [path.stem for path in paths]
    rows = [{**label(key, "signs", None), "state": "known", "names": ["stop"]} for key in keys]
    rows += [label(key, "dark", int(key) < 6) for key in keys if DARK in tasks]
    with catalog.commit(author="ada", message="pictures") as change:
        change.add_tasks(list(tasks))
        change.add_samples(sample_rows(keys, paths), dataset="signs")
        change.add_attributes(pa.table({"key": keys, "split": ["train"] * len(keys)}))
        change.add_labels(labels(rows), source="import")
    (folder / "policy.toml").write_text(SECTION.format("signs", 1.0, 1.0))
    return catalog


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    enter(tmp_path, monkeypatch)
    return make(tmp_path, SIGNS, WORDS)


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    enter(tmp_path, monkeypatch)
    return make(tmp_path, SIGNS, DARK)


def enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(folder)
    patch.setenv("AMBER_HOME", "home")
    patch.setenv("AMBER_AUTHOR", "ada")


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    "words",
    [
        ["plan"],
        ["policy", "suggest"],
        ["request", "--budget", "4"],
        ["loop"],
        ["loop", "--label-studio", "local"],
        ["loop", "--policy", "policy.toml"],
    ],
    ids=" ".join,
)
def test_alone_they_are_refused_before_any_work(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, *words)
    assert line == f"amber: tasks signs (multilabel), words (multilabel): {LEARNED}; declare one of these kinds"
    assert not Path("home/packs").exists()
    assert not Path("home/embeddings").exists()


def test_alone_they_are_refused_in_python(alone: Catalog) -> None:
    with alone.read() as now, pytest.raises(BadInput, match="no head learns this kind yet"):
        Policy.for_labelled(now)
    with pytest.raises(BadInput, match="no head learns this kind yet"):
        propose(alone, Proposal(budget=4, seed=0), author="ada", batch="b")
    with pytest.raises(BadInput, match="no head learns this kind yet"):
        next(run_loop(alone, Loop(rounds=0, start=4), author="ada"))


def test_alone_they_are_refused_by_the_service(alone: Catalog) -> None:
    secret = Tokens(alone.home).add("ann", "label")
    refused_there = pytest.raises(BadInput, match="no head learns this kind yet")
    with served(alone.home) as running, Client(running.url, secret) as client, refused_there:
        client.ask(AskedFor(budget=4, batch="b"))


@pytest.mark.usefixtures("mixed")
def test_a_policy_for_them_is_sound_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "check", "policy.toml"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"task signs (multilabel): {LEARNED}" in out


@pytest.mark.usefixtures("mixed")
def test_a_plan_for_them_can_be_written_but_not_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--policy", "policy.toml", "--draws", "64"]) == 0
    assert f"note: task signs (multilabel): {LEARNED}\n" in capsys.readouterr().err
    assert run(["plan", "materialize", "draws"]) == 0
    assert run(["plan", "materialize", "small", "--shard-size", "0.01"]) == 0
    assert (len(list(Path("draws").glob("*.tar"))), len(list(Path("small").glob("*.tar"))) > 2) == (1, True)
    capsys.readouterr()
    assert refused(capsys, "train") == f"amber: task signs (multilabel): {LEARNED}; plan again with share 0 for it"
    assert refused(capsys, "loop", "--policy", "policy.toml").endswith(
        f"signs (multilabel): {LEARNED}; give it share 0"
    )
    assert refused(capsys, "request", "--budget", "2", "--policy", "policy.toml").startswith("amber: task signs")
    assert not Path("home/embeddings").exists()


@pytest.mark.usefixtures("mixed")
def test_beside_others_they_are_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["plan", "--draws", "64"], ["request", "--budget", "2"]):
        assert run(words) == 0
        assert capsys.readouterr().err.count(f"note: task signs (multilabel): {LEARNED}\n") == 1


@pytest.mark.usefixtures("mixed")
def test_a_loop_without_an_oracle_is_refused_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["loop"]) == 2
    err = capsys.readouterr().err
    assert err.endswith("there is no oracle; pass --label-studio to ask people\n")
    assert not Path("home/packs").exists()


@pytest.mark.usefixtures("mixed")
def test_a_policy_in_force_for_them_stops_the_loop(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "set", "policy.toml"]) == 0
    capsys.readouterr()
    assert refused(capsys, "loop").startswith("amber: task signs (multilabel)")
