"""Trees compared on a small workspace with cached features: figures, costs, the verb, and what cannot be compared."""

import doctest
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support.drawn_boxes import boxes_catalog, boxes_plan
from support.learned import make_features, planned
from support.processes import ending
from support.refusals import amber, refused

from amber import tree_front
from amber.cli import run
from amber.compare_trees import TreeComparison, compare_trees, order_recipes, tree_recipes
from amber.search_trees import search_trees
from amber.tree_front import comparison_tables, write_comparison
from curation import BadInput, Catalog
from samplers import Plan
from training import Run, evaluate
from training.evaluation import cost

Capture = pytest.CaptureFixture[str]

WORDS = {"size": (32, 32), "global_batch": 16, "hidden": 8, "threads": 1, "learning_rate": 0.02}
HAND = '[tree]\ntasks = ["speed"]\n[tree.branch.marks]\nwidth = 8\ntasks = ["*"]\n'


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_features(tmp_path_factory.mktemp("compared"))


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> Plan:
    return planned(catalog, draws=320)


def compared(catalog: Catalog, plan: Plan) -> TreeComparison:
    (catalog.home.parent / "hand.toml").write_text(HAND)
    recipes = tree_recipes(WORDS, ["shared", "separate", str(catalog.home.parent / "hand.toml")])
    return compare_trees(catalog, plan, recipes, seeds=[3, 4], turns=3)


@pytest.fixture(scope="module")
def comparison(catalog: Catalog, plan: Plan) -> TreeComparison:
    return compared(catalog, plan)


def test_each_tree_has_a_run_for_each_seed_and_the_catalog_none(catalog: Catalog, comparison: TreeComparison) -> None:
    assert [tree.tree for tree in comparison.trees] == ["shared", "separate", "hand"]
    for tree in comparison.trees:
        assert [Run.open(catalog.home, id_).recipe.seed for id_ in tree.runs] == [3, 4]
    with catalog.read() as now:
        assert len(now.runs()) == 0


def test_a_second_comparison_trains_nothing(catalog: Catalog, plan: Plan, comparison: TreeComparison) -> None:
    files = {path: path.stat().st_mtime_ns for path in catalog.home.glob("runs/*/run.json")}
    again = compared(catalog, plan)
    assert {path: path.stat().st_mtime_ns for path in catalog.home.glob("runs/*/run.json")} == files
    trees = [replace(tree, milliseconds=0.0) for tree in again.trees]
    assert trees == [replace(tree, milliseconds=0.0) for tree in comparison.trees]
    assert again.figures == comparison.figures


def test_figures_are_those_of_the_runs_and_differences_are_from_the_first(
    catalog: Catalog, comparison: TreeComparison, tmp_path: Path
) -> None:
    shutil.copytree(catalog.home, tmp_path / "home")
    other, cells = Catalog.open(tmp_path / "home"), {}
    for tree in comparison.trees[:2]:
        rows = evaluate(Run.open(other.home, tree.runs[1]), other, author="ada").to_pylist()
        cells.update({(tree.tree, row["task"], row["slice"]): row for row in rows if row["split"] == "test"})
    assert {(each.task, each.slice) for each in comparison.figures} >= {
        ("color", ""),
        ("color", "night"),
        ("speed", ""),
    }
    first = {(each.task, each.slice): each.value for each in comparison.figures if each.tree == "shared"}
    for each in comparison.figures:
        if (row := cells.get((each.tree, each.task, each.slice))) is not None:
            assert each.values[1] == pytest.approx(row["value"])
            assert (each.n, each.groups) == (row["n"], row["groups"])
        if each.tree == "shared":
            assert each.gap is None
        else:
            assert each.gap is not None
            assert each.gap.value == pytest.approx(each.value - first[each.task, each.slice])


def test_costs_count_what_an_image_needs(comparison: TreeComparison) -> None:
    """12 features, branches of 8, heads filled up to 16 rows, four tasks."""
    shared, separate, hand = comparison.trees
    assert (shared.macs, shared.parameters) == (12 * 8 + 8 * 16, 13 * 8 + 9 * 16)
    assert (separate.macs, separate.parameters) == (4 * shared.macs, 4 * shared.parameters)
    assert hand.macs == shared.macs + 12 * 16
    assert shared.milliseconds < separate.milliseconds
    assert comparison.frozen_macs == pytest.approx(8_000_000, rel=0.25)  # EfficientNet-Lite0 at 32 x 32
    assert shared.front
    assert separate.gap is not None
    assert separate.gap.low is not None
    assert separate.score == pytest.approx(shared.score + separate.gap.value)


def test_the_folder_is_written_whole_and_only_over_a_comparison(comparison: TreeComparison, tmp_path: Path) -> None:
    for _ in range(2):
        folder = write_comparison(tmp_path / "trees", comparison)
    assert sorted(path.name for path in folder.iterdir()) == ["figures.json", "front.svg"]
    assert json.loads((folder / "figures.json").read_text())["trees"][0]["tree"] == "shared"
    assert "separate" in (folder / "front.svg").read_text()
    console = Console(width=200)
    with console.capture() as printed:
        console.print(comparison_tables(comparison))
    text = " ".join(printed.get().split())
    assert "hand (minus shared [95%])" in text
    assert f"{comparison.trees[0].score:.3f}" in text
    assert "too little data" in text
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"holds mine\.txt, which is no part of a comparison"):
        write_comparison(folder, comparison)
    assert (folder / "mine.txt").read_text() == "mine"


@pytest.fixture
def here(catalog: Catalog, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of the workspace without its runs, a recipe and a tree."""
    shutil.copytree(catalog.home, tmp_path / "home", ignore=shutil.ignore_patterns("runs"))
    words = "\n".join(f"{name} = {list(value) if isinstance(value, tuple) else value}" for name, value in WORDS.items())
    (tmp_path / "recipe.toml").write_text(words)
    (tmp_path / "hand.toml").write_text(HAND)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMBER_HOME", "home")
    return tmp_path


CALL = ("compare-trees", "--recipe", "recipe.toml", "--trees", "shared,hand.toml", "--turns", "2")


def test_a_killed_comparison_leaves_no_folder_and_goes_on(here: Path, capsys: Capture) -> None:
    with ending(amber(*CALL, "--seeds", "9")) as process:
        while not (done := list(here.glob("home/runs/*/run.json"))):
            assert process.poll() is None, "it ended before a run did"
            time.sleep(0.02)
        process.kill()
        process.wait()
    assert not (here / "trees").exists()
    kept = {path: path.stat().st_mtime_ns for path in done}
    assert run([*CALL, "--seeds", "1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {path: path.stat().st_mtime_ns for path in done} == kept
    assert (shown["folder"], shown["seeds"]) == ("trees", [0])
    assert json.loads((here / "trees" / "figures.json").read_text())["figures"] == shown["figures"]


@pytest.mark.parametrize(
    ("words", "text", "says"),
    [
        (["--trees", "shared"], HAND, "a comparison needs two"),
        (["--trees", "shared,hand.toml,hand.toml"], HAND, "hand is there twice"),
        (["--trees", "shared,nosuch.toml"], HAND, "no such file"),
        (["--trees", "shared,hand.toml"], HAND + '[task.car]\nrate = 0.5', "task is no part of a tree"),
        (["--trees", "shared,hand.toml"], "width = 3", "width is no part of a tree"),
        (["--trees", "shared,hand.toml"], HAND.replace("*", "boat"), "names the task 'boat'"),
        (["--trees", "shared,hand.toml"], HAND.replace('"*"', '"car"'), "has no place"),
        (["--out", "home"], HAND, "which is no part of a comparison"),
        (["--device", "cuda"], HAND, "no GPU"),
        (["nosuchplan"], HAND, "nosuchplan"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_line(
    here: Path, capsys: Capture, words: list[str], text: str, says: str
) -> None:
    (here / "hand.toml").write_text(text)
    assert says in refused(capsys, "compare-trees", "--recipe", "recipe.toml", *words)
    assert not (here / "home" / "runs").exists()
    assert not (here / "trees").exists()


def test_a_recipe_with_a_tree_of_its_own_is_refused() -> None:
    with pytest.raises(BadInput, match="tree is no part of a comparison"):
        tree_recipes({**WORDS, "tree": "shared"}, ["shared", "separate"])


def test_a_split_without_labels_is_refused(catalog: Catalog, plan: Plan) -> None:
    recipes = tree_recipes(WORDS, ["shared", "separate"])
    with pytest.raises(BadInput, match=r"no task of plan .* has a known label there"):
        compare_trees(catalog, plan, recipes, seeds=[0], split="nowhere")


def test_the_examples_run() -> None:
    done = [doctest.testmod(module) for module in (tree_front, cost)]
    assert [(each.failed, each.attempted > 0) for each in done] == [(0, True)] * 2


STAGED = """hidden = 8
[[stages]]
part = 0.5
tasks = ["color"]
[[stages]]
part = 0.5
"""


def test_an_order_is_compared_with_learning_all_from_the_start(catalog: Catalog, plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "staged.toml"
    path.write_text(STAGED)
    recipes = order_recipes(["joint", str(path)], WORDS)
    assert [len(recipe.stages) for recipe in recipes.values()] == [0, 2]
    assert recipes["joint"] == replace(recipes["staged"], stages=())
    found = compare_trees(catalog, plan, recipes, seeds=[3], turns=2)
    assert [tree.tree for tree in found.trees] == ["joint", "staged"]
    assert found.trees[0].macs == found.trees[1].macs
    assert found.trees[1].gap is not None


@pytest.mark.parametrize(
    ("orders", "says"),
    [
        (["staged.toml"], "a comparison needs two"),
        (["joint"], "joint"),
        (["staged.toml", "staged.toml"], "staged is there twice"),
        (["staged.toml", "pixels.toml"], "have different trunks"),
    ],
)
def test_orders_that_cannot_be_compared_are_refused(
    orders: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("staged.toml").write_text(STAGED)
    Path("pixels.toml").write_text(f'trunk = "small"\n{STAGED}')
    with pytest.raises(BadInput, match=says):
        order_recipes(orders, {"size": (32, 32)})


def test_tasks_of_boxes_are_refused_before_a_training(tmp_path: Path) -> None:
    boxed = boxes_catalog(tmp_path, images=20)
    plan, _ = boxes_plan(boxed, draws=32, signs=0.5, dark=0.5)
    recipes = tree_recipes({"trunk": "small"}, ["shared", "separate"])
    with pytest.raises(BadInput, match=r"task signs \(detection\): trees are compared on classes and numbers"):
        compare_trees(boxed, plan, recipes, seeds=[0])
    with pytest.raises(BadInput, match="task signs"):
        search_trees(boxed, plan, recipes["shared"])
