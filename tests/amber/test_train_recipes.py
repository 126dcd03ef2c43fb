"""`amber train` with a recipe file, for some tasks only, and with what does not fit."""

import json
from pathlib import Path

import pytest
from support.refusals import refused

from amber.cli import run
from curation.catalog.catalog import Catalog
from samplers import Plan
from training import Run

Capture = pytest.CaptureFixture[str]

RECIPE = """
trunk = "small"
size = [32, 48]
global_batch = 16
augment = false
threads = 1
[tree]
tasks = ["*"]
[tree.branch.marks]
width = 8
tasks = ["color"]
"""


@pytest.fixture
def planned(folder: Path, capsys: Capture) -> Path:
    """A workspace with a short plan, and recipe.toml."""
    run(["oracle"])
    run(["request", "--budget", "40", "--random-share", "1"])
    run(["oracle"])
    assert run(["pack"]) == 0
    assert run(["plan", "--draws", "64"]) == 0
    (folder / "recipe.toml").write_text(RECIPE)
    capsys.readouterr()
    return folder


def trained(capsys: Capture, *words: str) -> Run:
    assert run(["train", "--json", *words]) == 0
    return Run.open(Path("home"), json.loads(capsys.readouterr().out)["run"])


def test_a_recipe_file_decides_and_options_fill_in(planned: Path, capsys: Capture) -> None:
    made = trained(capsys, "--recipe", "recipe.toml", "--seed", "4", "--batch", "32")
    assert made.recipe.tree is not None
    assert list(made.recipe.tree.branch) == ["marks"]
    assert (made.recipe.seed, made.recipe.global_batch, made.recipe.size) == (4, 16, (32, 48))
    task = Plan.open(Path("home"), made.plan).tasks[0].name
    only = trained(capsys, "--parent", made.id, "--only", task)
    assert only.recipe.only == (task,)
    assert only.recipe.tree == made.recipe.tree
    with Catalog.open("home").read() as now:
        assert {made.id, only.id} <= set(now.runs()["run"].to_pylist())


@pytest.mark.parametrize(
    ("words", "text", "says"),
    [
        (["--recipe", "nosuch.toml"], RECIPE, "no such file"),
        (["--recipe", "recipe.toml"], "tree = 3", "tree = 3"),
        (["--recipe", "recipe.toml"], RECIPE + '[tree.branch.own]\ntasks = ["boat"]', "own names the task 'boat'"),
        (["--recipe", "recipe.toml", "--device", "cuda"], RECIPE, "no GPU"),
        (["--recipe", "recipe.toml", "--only", "color"], RECIPE, "no run to start from"),
    ],
)
def test_what_does_not_fit_is_one_line(planned: Path, capsys: Capture, words: list[str], text: str, says: str) -> None:
    (planned / "recipe.toml").write_text(text)
    assert says in refused(capsys, "train", *words)
