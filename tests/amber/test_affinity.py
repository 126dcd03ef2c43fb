"""`amber affinity` and `amber group`: verdicts, unknown cosines, the labels that would tell, groups under a budget."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.homes import work_in
from support.learned import make_features, planned, recipe
from support.refusals import refused

from amber.cli import run
from curation.catalog.catalog import Catalog
from training import evaluate, train
from training.recipe import Recipe

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn run on made features, of tasks that are labelled on images of their own, and its measured pairs."""
    folder = tmp_path_factory.mktemp("affinity")
    catalog = make_features(folder)
    found = train(recipe(tree="shared", learning_rate=0.02, units=8, epochs=2), planned(catalog, draws=320), catalog)
    evaluate(found, catalog, author="ada")
    with pytest.MonkeyPatch.context() as patch:
        work_in(folder, patch)
        assert run(["affinity", "--pairs", "--seeds", "1", "--out", "pairs.svg"]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(made, monkeypatch)


def told(capsys: Capture, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found: dict[str, Any] = json.loads(out)
    return found


def test_every_pair_has_a_verdict_both_ways_and_the_picture_names_all(capsys: Capture) -> None:
    found = told(capsys, "affinity")["pairs"]
    tasks = found["tasks"]
    pairs = {(each["task"], each["partner"]) for each in found["effects"]}
    assert pairs == {(one, other) for one in tasks for other in tasks if one != other}
    assert {each["verdict"] for each in found["effects"]} <= {"synergy", "conflict", "cannot tell"}
    assert all(each["low"] <= each["gain"] <= each["high"] for each in found["effects"])
    drawing = Path("pairs.svg").read_text()
    assert drawing.startswith("<?xml")
    assert run(["affinity"]) == 0
    assert "cannot tell" in capsys.readouterr().out


def test_tasks_that_are_never_known_together_are_unknown_and_the_printed_command_asks(capsys: Capture) -> None:
    before = told(capsys, "affinity")
    seldom = [cell for cell in before["cosines"] if cell["share"] < 0.4]
    assert 0 < len(seldom) < len(before["cosines"])
    assert all(cell["cosine"] is None and "seldom known together" in cell["why"] for cell in seldom)
    assert run(["affinity"]) == 0
    printed = capsys.readouterr().out.split("labels that would make cosines known: amber ")[1].split()
    asked = told(capsys, *printed, "--author", "ada")
    with Catalog.open("home").read() as now:
        rows = [row for row in now.requests("open").to_pylist() if row["arm"] == "together"]
        train_ids = set(now.training_ids().tolist())
        known = {(row["sample_id"], row["task_id"]) for row in now.labels.known().to_pylist()}
        assert asked["requested"] == len(rows) == int(printed[-1])
        assert all(row["sample_id"] in train_ids for row in rows)
        assert all((row["sample_id"], now.task_ids()[row["task"]]) not in known for row in rows)
        assert all(any(sample == row["sample_id"] for sample, _ in known) for row in rows)
        assert all("is known here" in row["reason"] for row in rows)


def test_groups_stand_beside_shared_and_separate_and_their_tree_trains(capsys: Capture) -> None:
    found = told(capsys, "group", "--networks", "2", "--out", "groups.toml")["candidates"]
    assert [each["name"] for each in found] == ["chosen", "all shared", "all separate"]
    assert found[0]["gain"] >= found[1]["gain"]
    assert [each["fits"] for each in found][:2] == [True, True]
    assert found[1]["macs"] < found[2]["macs"]
    tree = Recipe.load("groups.toml", heads="drawn", optimizer="adamw", size=(32, 32))
    assert {task for branch in tree.branching.branch.values() for task in branch.tasks} >= set(
        found[0]["grouping"]["gains"]
    )
    assert run(["group", "--helpers"]) == 0
    assert "fresh seeds" in capsys.readouterr().out


def test_a_budget_bounds_the_networks(capsys: Capture) -> None:
    one = told(capsys, "group", "--networks", "9")["candidates"]
    shared = one[1]["macs"]
    found = told(capsys, "group", "--networks", "9", "--budget", str(shared))["candidates"]
    assert len(found[0]["grouping"]["networks"]) == 1
    assert not found[2]["fits"]
    assert "one network for all tasks takes" in refused(capsys, "group", "--budget", str(shared - 1))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["affinity", "--task", "boat"], "task boat: run .* learned"),
        (["affinity", "--task", "color"], "task color: affinity is between two tasks"),
        (["affinity", "--pairs", "--task", "color"], "task color: affinity is between two tasks"),
        (["affinity", "--out", "pairs.txt"], "must end in .svg"),
        (["affinity", "--ask", "0", "--author", "ada"], "--ask 0: "),
        (["affinity", "--ask", "99999", "--author", "ada"], "--ask 99999: .* known together"),
        (["affinity", "--ask", "5", "--author", ""], "author"),
        (["affinity", "nosuch"], "nosuch"),
        (["group", "nosuch"], "nosuch"),
        (["group", "--networks", "0"], "networks"),
    ],
)
def test_bad_input_is_one_line(capsys: Capture, words: list[str], says: str) -> None:
    assert re.search(says, refused(capsys, *words))
