"""Tasks of boxes on the command line: planned by default where they are alone, by a policy beside others."""

import json
from pathlib import Path

import pytest
from support.drawn_boxes import boxes_catalog
from support.homes import work_in
from support.refusals import refused

from amber.cli import run
from curation import Catalog
from training import Run
from training.recipe import BoxRecipe

SECTION = '[task.{}]\nowner = "ada"\nshare = {}\nimportance = {}\n'
BOTH = SECTION.format("signs", 0.5, 0.5) + SECTION.format("dark", 0.5, 0.5)
LEFT_OUT = (
    "task signs (detection): boxes learn from pixels, so no default policy draws for it; give it a share in a policy"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return boxes_catalog(tmp_path_factory.mktemp("policies"), images=24)


@pytest.fixture
def here(home: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(home.home.parent, monkeypatch)
    Path("policy.toml").write_text(BOTH)


@pytest.mark.usefixtures("here")
def test_beside_others_a_default_policy_leaves_them_out_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--draws", "64"]) == 0
    assert capsys.readouterr().err.count(f"note: {LEFT_OUT}\n") == 1
    assert run(["policy", "suggest"]) == 0
    assert "[task.signs]" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_a_policy_draws_for_them_without_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "check", "policy.toml"]) == 0
    assert run(["plan", "--policy", "policy.toml", "--draws", "64"]) == 0
    assert LEFT_OUT not in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_features_alone_do_not_learn_them(capsys: pytest.CaptureFixture[str], home: Catalog) -> None:
    line = "task signs (detection): boxes are found on the maps of a trunk that learns from draws by adamw, not on"
    assert run(["plan", "--policy", "policy.toml", "--draws", "64"]) == 0
    capsys.readouterr()
    assert refused(capsys, "train", "--heads", "exact").startswith(
        f"amber: {line} efficientnet_lite0 with heads = exact"
    )
    assert refused(capsys, "loop", "--policy", "policy.toml").startswith(f"amber: {line}")
    assert not (home.home / "embeddings").exists()


@pytest.mark.usefixtures("here")
def test_alone_they_are_planned_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = boxes_catalog(tmp_path, images=12, dark=False)
    assert run(["plan", "--draws", "64", "--home", str(catalog.home)]) == 0
    assert LEFT_OUT not in capsys.readouterr().err


def test_a_plan_with_boxes_is_trained_on_frozen_maps_by_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = boxes_catalog(tmp_path, images=24, dark=False)
    words = ["--home", str(catalog.home)]
    assert run(["plan", "--draws", "32", *words]) == 0
    capsys.readouterr()
    assert run(["train", "--batch", "16", "--size", "64", "96", *words, "--author", "ada", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    recipe = Run.open(catalog.home, found["run"]).recipe
    assert (recipe.trunk, recipe.learn_from, recipe.boxes) == ("efficientnet_lite0", "head", BoxRecipe())
    assert {row["metric"] for row in found["figures"]} == {"map", "ap50"}


def test_a_loop_of_boxes_alone_on_features_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    home = boxes_catalog(tmp_path, images=12, dark=False).home
    line = refused(capsys, "loop", "--home", str(home), "--author", "ada")
    assert line.startswith("amber: task signs (detection): boxes are found on the maps")
    assert not (home / "packs").exists()


def test_a_loop_without_an_oracle_is_refused_before_any_work_and_says_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = boxes_catalog(tmp_path, images=12).home
    assert run(["loop", "--home", str(home), "--author", "ada"]) == 2
    error = capsys.readouterr().err
    assert f"note: {LEFT_OUT}" in error
    assert error.endswith("there is no oracle; pass --label-studio to ask people\n")
    assert not (home / "packs").exists()
