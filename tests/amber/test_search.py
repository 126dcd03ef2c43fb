"""`amber search`: trees, weights and recipes on a small workspace with cached features; kills, and what is refused."""

import doctest
import json
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from support.learned import make_features, planned
from support.processes import ending
from support.refusals import amber, refused

from amber.cli import run
from amber.compare_trees import ComparedTree, TreeComparison
from amber.search_trees import recommended_tree
from curation import Catalog
from curation.files import toml_files
from samplers import Policy, make_pack, make_plan
from training.dynamics import tree_candidates
from training.recipe import Recipe

Capture = pytest.CaptureFixture[str]

RECIPE = "size = [32, 32]\nglobal_batch = 16\nhidden = 8\nthreads = 1\nlearning_rate = 0.02\n"
TREE = ("search", "tree", "--recipe", "recipe.toml", "--turns", "2", "--seeds", "2")
WEIGHTS = ("search", "weights", "--recipe", "recipe.toml", "--budget", "1.5")
TRIALS = 6


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = make_features(tmp_path_factory.mktemp("searched"))
    planned(catalog, draws=320)
    return catalog


@pytest.fixture
def here(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of the workspace and a recipe."""
    shutil.copytree(catalog.home, tmp_path / "home", ignore=shutil.ignore_patterns("runs"))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMBER_HOME", "home")
    return tmp_path


def test_a_tree_search_ends_in_a_recipe_and_a_picture(here: Path, capsys: Capture) -> None:
    assert run([*TREE, "--macs", "1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    tried = {tree["tree"]: tree for tree in shown["tried"]}
    assert list(tried) == ["shared", "separate", "groups2", "groups3", "groups4"]
    assert all(tree["macs"] <= tried["shared"]["macs"] for name, tree in tried.items() if name != "separate")
    assert {task for group in tried["groups2"]["groups"] for task in group} == {"color", "car", "bike", "speed"}
    assert sorted(len(tree["gains"]) for tree in shown["tried"]) == [1, 2, 2, 2, 2]
    assert {"shared", "separate"} < {tree["tree"] for tree in shown["trees"]}
    assert shown["seeds"] == [2, 3]
    assert shown["recommended"] in tried
    recipe = Recipe.parse(tomllib.loads((here / "tree-search" / "recipe.toml").read_text()))
    assert recipe.hidden == 8
    assert "shared" in (here / "tree-search" / "front.svg").read_text()
    assert json.loads((here / "tree-search" / "figures.json").read_text())["recommended"] == shown["recommended"]


def test_weights_are_searched_again_only_where_trials_are_missing(here: Path, capsys: Capture) -> None:
    with ending(amber(*WEIGHTS, "--json")) as process:
        journal: Path | None = None
        while journal is None or '"state":1' not in journal.read_text():
            assert process.poll() is None, "it ended before it was killed"
            journal = next(iter(here.glob("home/studies/*/journal.log")), None)
            time.sleep(0.02)
        process.kill()
        process.wait()
    assert journal is not None
    kept = journal.read_text().splitlines()
    assert run([*WEIGHTS, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert [row["number"] for row in first["trials"]] == list(range(TRIALS))
    assert all(row["score"] is not None for row in first["trials"])
    assert journal.read_text().splitlines()[: len(kept) - 1] == kept[:-1]
    if first["verdict"]:
        verdict = first["verdict"]
        assert verdict["shrinkage"] == pytest.approx(verdict["searched"] - verdict["fresh"])
    assert run([*WEIGHTS, "--processes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert journal.read_text().count('"state":1,') == TRIALS


def test_processes_find_what_one_finds_at_random(here: Path, capsys: Capture) -> None:
    found = []
    for name, count in (("one", "1"), ("two", "2")):
        words = [*WEIGHTS, "--budget", "1", "--sampler", "random", "--study", name, "--processes", count, "--json"]
        assert run(words) == 0
        found.append(json.loads(capsys.readouterr().out)["trials"])
    assert found[0] == found[1]


def test_a_recipe_search_moves_rates_and_decays_by_group(here: Path, capsys: Capture) -> None:
    words = ["search", "recipe", "--recipe", "recipe.toml", "--budget", "1", "--group", "color,car", "--groups", "2"]
    assert run([*words, "--out", "better.toml"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "learning_rate" in text
    assert "rate color+car" in text
    assert "recommended:" in text
    assert (here / "better.toml").exists() == ("recommended: trial" in text)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([*TREE, "--part", "0.001"], "holds no batch of 16; plan at least 16,000 draws"),
        ([*TREE, "--out", "home"], "which is no part of a comparison"),
        ([*TREE, "nosuchplan"], "nosuchplan"),
        ([*WEIGHTS, "--part", "0.001"], "holds no batch of 16"),
        ([*WEIGHTS, "--budget", "0.2"], "a trial costs 2 trainings on 0.125 of the draws, 0.25 trainings of the plan"),
        ([*WEIGHTS, "--group", "boat,car"], "--group boat: is no task"),
        ([*WEIGHTS, "--group", "car,car"], "--group car: is in two groups"),
        ([*WEIGHTS, "--groups", "1"], "a search needs two"),
        (["search", "recipe", "--recipe", "solved.toml"], "set heads = drawn"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_one_line(here: Path, capsys: Capture, words: list[str], says: str) -> None:
    (here / "solved.toml").write_text(RECIPE + 'heads = "exact"\n')
    assert says in refused(capsys, *words)
    assert not (here / "tree-search").exists()
    assert not list(here.glob("home/studies/*/journal.log"))


def test_one_task_is_refused(here: Path, capsys: Capture) -> None:
    catalog = Catalog.open("home")
    with catalog.read() as now:
        policy = Policy.even([now.task("color")])
    plan = make_plan(catalog, policy, make_pack(catalog), draws=320)
    assert "a search of trees needs two" in refused(capsys, *TREE, plan.hash)
    assert "a search needs two" in refused(capsys, *WEIGHTS, plan.hash)


def test_a_study_of_another_plan_is_refused(here: Path, capsys: Capture) -> None:
    other = planned(Catalog.open("home"), draws=336)
    assert run([*WEIGHTS, "--budget", "0.5", "--study", "mine", "--json"]) == 0
    capsys.readouterr()
    (plan,) = (path.parent.name for path in here.glob("home/plans/*/plan.json") if path.parent.name != other.hash)
    assert "study mine: is of plan" in refused(capsys, *WEIGHTS, plan, "--budget", "0.5", "--study", "mine")


def test_without_the_extra_one_line_says_how_to_install_it(here: Path) -> None:
    code = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'optuna' else find(name, *more)\n"
        "from amber.cli import run; sys.exit(run(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *WEIGHTS], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "amber-curation[search]" in done.stderr


def compared(chances: dict[str, dict[str, float]]) -> TreeComparison:
    """A comparison of trees whose operations grow in the order of `chances`."""
    trees = [
        ComparedTree(tree=name, runs=(), parameters=1, macs=number, milliseconds=1.0, score=0.0, gap=None, front=True)
        for number, name in enumerate(chances, 1)
    ]
    whole = {a: {b: found.get(b, 0.9) for b in chances if b != a} for a, found in chances.items()}
    return TreeComparison(plan="", split="", seeds=(), frozen_macs=0, trees=trees, figures=[], chances=whole)


@pytest.mark.parametrize(
    ("small", "large", "chosen"),
    [
        ({}, {}, "shared"),
        ({"shared": 0.01}, {"shared": 0.01}, "small"),
        ({"shared": 0.01}, {"shared": 0.01, "small": 0.01}, "large"),
        ({"shared": 0.02}, {}, "small"),
        ({"shared": 0.03}, {}, "shared"),  # 5% all together, for two trees
        ({"shared": 0.04}, {"shared": 0.02}, "small"),
    ],
)  # fmt: skip
def test_a_tie_takes_the_simpler_tree(small: dict[str, float], large: dict[str, float], chosen: str) -> None:
    comparison = compared({"shared": {}, "small": small, "large": large})
    assert recommended_tree(comparison, ["large", "small"]) == chosen


def test_the_examples_run() -> None:
    for module in (tree_candidates, toml_files):
        done = doctest.testmod(module)
        assert (done.failed, done.attempted > 0) == (0, True)
