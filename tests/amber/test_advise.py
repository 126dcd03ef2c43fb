"""`amber advise`: what a run measured itself, two runs that differ in what they share, and what is not measured."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.homes import copy_home
from support.learned import make_features, planned, recipe
from support.planted_runs import noisy, plant_run, planted_home
from support.refusals import refused

from amber.cli import run
from curation.catalog.catalog import Catalog
from samplers.plan.plan import Plan
from training import Recipe, Run, evaluate, train
from training.judging.advice import advise, shares_layers
from training.run import Head
from training.tree import Branch, Tree

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Run]:
    """On one plan, a run that shares a layer and knows colors, and one of separate layers that knows less."""
    catalog, plan = planted_home(tmp_path_factory.mktemp("advised"))
    words = {"trunk": "efficientnet_lite0", "size": (32, 32), "heads": "drawn"}
    together, alone = (Recipe.parse({**words, "tree": tree}) for tree in ("shared", "separate"))
    plant_run(
        catalog,
        plan,
        "alone",
        lambda task: noisy(catalog, task, signal=4.0 if task.name == "bike" else 1.0),
        recipe=alone,
    )
    signal = {"color": 4.0, "car": 1.0}
    shared = plant_run(
        catalog, plan, "together", lambda task: noisy(catalog, task, signal=signal.get(task.name, 0.0)), recipe=together
    )
    return catalog, shared


def found_in(catalog: Catalog) -> dict[str, Any]:
    with catalog.read() as now:
        return {row.task: row for row in advise(now, catalog.home)}


def test_two_runs_that_differ_in_what_they_share_are_compared(planted: tuple[Catalog, Run]) -> None:
    found = found_in(planted[0])
    assert found["color"].verdict == "pays"
    assert found["color"].measured.low > 0
    assert "together" in found["color"].measured.source
    assert found["car"].verdict == "no difference shown"
    assert found["car"].command.startswith("amber compare-trees")


def test_a_task_that_gets_worse_together_is_named(planted: tuple[Catalog, Run]) -> None:
    found = found_in(planted[0])["bike"]
    assert found.verdict == "costs"
    assert found.measured.high < 0


def test_what_a_run_compared_itself_counts(tmp_path: Path) -> None:
    catalog = make_features(tmp_path, samples=160)
    made = train(recipe(heads="exact", hidden=0), planned(catalog), catalog)
    evaluate(made, catalog, author="ada")
    assert {row.verdict for row in found_in(catalog).values()} == {"cannot tell"}
    assert found_in(catalog)["color"].command == "amber train --heads auto"
    heads = [Head(task="color", kind="exact", labels=80, classes=3, gain=-0.05, low=-0.08, high=-0.02)]
    Run(**{**vars(made), "heads": heads}).save(catalog.home)
    row = found_in(catalog)["color"]
    assert (row.verdict, row.command) == ("costs", "")
    assert row.measured.gain == pytest.approx(-5.0)


def test_a_run_that_learned_one_task_only_is_passed_over(planted: tuple[Catalog, Run], tmp_path: Path) -> None:
    catalog = copy_home(planted[0], tmp_path)
    for folder in (catalog.home / "runs").iterdir():
        made = Run.open(catalog.home, folder.name)
        replace(made, recipe=replace(made.recipe, only=("car",))).save(catalog.home)
    assert found_in(catalog) == {}


@pytest.mark.parametrize(
    ("words", "shares"),
    [
        ({"trunk": "small"}, True),
        ({"trunk": "small", "tree": "separate"}, False),
        ({"heads": "drawn", "hidden": 0}, False),
        ({"heads": "drawn", "hidden": 8}, True),
        ({"heads": "drawn", "tree": "separate"}, False),
    ],
)
def test_which_recipes_share_layers(planted: tuple[Catalog, Run], words: dict[str, Any], shares: bool) -> None:
    catalog, made = planted
    plan = Plan.open(catalog.home, made.plan)
    built = Run(id="a", plan=plan.hash, commit=1, recipe=Recipe.parse({"size": (32, 32), **words}))
    assert shares_layers(built, plan, "car") is shares


def test_a_branch_of_its_own_shares_nothing_on_a_frozen_trunk(planted: tuple[Catalog, Run]) -> None:
    catalog, made = planted
    plan = Plan.open(catalog.home, made.plan)
    tree = Tree(branch={"own": Branch(width=8, tasks=("car",)), "rest": Branch(width=8, tasks=("*",))})
    built = Run(id="a", plan=plan.hash, commit=1, recipe=Recipe.parse({"size": (32, 32), "heads": "drawn"}))
    built = Run(**{**vars(built), "recipe": Recipe(**{**vars(made.recipe), "tree": tree})})
    assert not shares_layers(built, plan, "car")
    assert shares_layers(built, plan, "color")


def test_table_and_json(planted: tuple[Catalog, Run], capsys: Capture) -> None:
    home = ["--home", str(planted[0].home)]
    assert run(["advise", *home, "--json"]) == 0
    out = capsys.readouterr()
    assert out.err == ""
    assert {row["task"] for row in json.loads(out.out)} >= {"color", "car"}
    assert run(["advise", *home]) == 0
    assert "learn it together" in " ".join(capsys.readouterr().out.split())


def test_without_a_run_it_is_refused(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    make_features(tmp_path, samples=40)
    monkeypatch.chdir(tmp_path)
    assert "amber train" in refused(capsys, "advise", "--home", str(tmp_path / "home"))
