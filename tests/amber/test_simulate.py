"""Simulations on a small data set: one table, one picture, equal starts, and one line for what cannot be simulated."""

import csv
import doctest
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.lamps import declare
from support.refusals import one_line

from amber import simulate as module
from amber.cli import run
from amber.loop import Loop
from amber.replayed_data import Simulation
from amber.simulate import Point, simulate
from amber.simulated_picture import draw, paired, simulated_table
from benchmarks.labels_data import balanced_logistic
from curation import BadInput
from training.recipe import Recipe

LOOP = Loop(rounds=1, start=20, budget=6, draws=128, recipe=Recipe(size=(32, 32), threads=1))
YELLOW = Simulation(task="color", labels=("yellow",), share=0.06, loop=LOOP)


def test_arms_start_alike_and_end_with_as_many_labels(tmp_path: Path) -> None:
    data, seen = declare(tmp_path / "data", counts=(40, 16, 32)), list[float]()

    def watched(catalog: object, simulation: Simulation, run: str) -> object:
        held = pq.read_table(Path(catalog.home) / "oracle.parquet").to_pylist()
        seen.append(float(np.mean([Path(row["key"]).parent.name != row["text"] for row in held])))
        return balanced_logistic(catalog, simulation, run)  # type: ignore[arg-type]

    points = list(
        simulate(data, tmp_path / "work", YELLOW, seeds=[3], arms=("mined", "random"), beside={"logistic": watched})  # type: ignore[dict-item]
    )
    assert [(point.arm, point.labels) for point in points] == [
        ("mined", 20), ("mined", 26), ("logistic", 26), ("random", 20), ("random", 26),
    ]  # fmt: skip
    assert points[0].ap == points[3].ap
    assert all(0 <= point.ap <= 1 for point in points)
    assert 0 < seen[0] < 0.25
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["template"]


def test_several_classes_are_wanted_at_once(tmp_path: Path) -> None:
    data = declare(tmp_path / "data", counts=(40, 16, 32))
    both = Simulation(task="color", labels=("yellow", "green"), share=0.06, known=0.3, loop=LOOP)
    points = list(simulate(data, tmp_path / "work", both, seeds=[1], arms=("mined", "margin")))
    assert [(point.arm, point.label) for point in points] == [
        (arm, label) for arm in ("mined", "margin") for _ in range(2) for label in ("yellow", "green")
    ]
    start, bought = points[0].labels, points[-1].labels
    assert bought == start + 6
    assert points[0] == replace(points[4], arm="mined")
    assert paired(points, "mined", "margin") is not None
    assert paired(points, "mined") is None


def declared_marks(folder: Path) -> Path:
    """Pictures with up to two marks each, and how bright they are; every label is known."""
    declare(folder, counts=(60, 12, 40))
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "marks", "bright"])
        for path in sorted((folder / "images").rglob("*.jpg")):
            shade = float(np.asarray(Image.open(path), np.float64).mean())
            marks = [name for name in ("yellow", "green") if name == path.parent.name] + ["dark"] * (shade < 70)
            table.writerow([path.relative_to(folder), json.dumps(marks), shade])
    (folder / "dataset.toml").write_text(MARKS)
    return folder


MARKS = """
name = "marks"
title = "Flat coloured pictures"
licence = "Apache-2.0"
source = "drawn by the tests"
[reader]
kind = "tables"
[[reader.table]]
file = "labels.csv"
rows = "samples"
location = "file"
[[task]]
name = "marks"
kind = "multilabel"
classes = ["yellow", "green", "dark"]
owner = "signals"
[[task]]
name = "bright"
kind = "regression"
unit = "levels"
metric = "mae"
owner = "signals"
[split]
by = "group"
test = 0.3
"""


@pytest.mark.parametrize("wanted", [("marks", ("yellow",)), ("bright", ())])
def test_tasks_of_several_classes_and_of_numbers_are_replayed(
    wanted: tuple[str, tuple[str, ...]], tmp_path: Path
) -> None:
    data = declared_marks(tmp_path / "data")
    task, labels = wanted
    asked = Simulation(task=task, labels=labels, share=0.06, wrong=0.2, known=0.4, loop=LOOP)
    found = list(simulate(data, tmp_path / "work", asked, seeds=[1], arms=("mined", "random")))
    assert [(point.arm, point.label) for point in found[::2]] == [
        (arm, (*labels, "")[0]) for arm in ("mined", "random")
    ]
    assert [point.labels - found[0].labels for point in found] == [0, 6] * 2
    for point in found:
        assert (point.error is None) == bool(labels)
        assert np.isnan(point.ap) == (not labels)
    assert ("error" in simulated_table("x", found).columns) == (not labels)


def test_the_verb_prints_a_table_and_writes_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    declare(tmp_path / "data")
    words = "simulate data --wanted color=yellow --share 0.05 --seeds 1 --arm random --rounds 0 --start 20 --draws 128"
    assert run(words.split()) == 0
    assert "color=yellow at 5.0%" in capsys.readouterr().out
    with Image.open("simulation.png") as picture:
        assert picture.size[0] > 500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "simulation.png"]


def points(arm: str, values: list[float]) -> list[Point]:
    rest = {"label": "yellow", "labels": 10, "found": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0, "tasks": {}}
    return [Point(arm=arm, seed=seed, ap=value, **rest) for seed, value in enumerate(values)]


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    both = points("mined", [0.5, 0.9]) + points("random", [0.4, 0.8])
    assert paired(both, "mined") == pytest.approx((0.1, 0.1, 0.1))
    assert paired(both, "random") is None
    assert draw("lamps", both, tmp_path / "a.svg").read_text().startswith("<?xml")
    with pytest.raises(BadInput, match="must end in"):
        draw("lamps", both, tmp_path / "a.jpg")


WRONG = {
    "a class that thinning removes": ("--wanted color=yellow --share 0.001", "none is left; raise the share"),
    "a class that is unknown": ("--wanted color=blue", "color has no such class"),
    "a task that is unknown": ("--wanted colour=red", "declares color"),
    "no pair": ("--wanted color=", "must be TASK=CLASS"),
    "a share of 1": ("--wanted color=yellow --share 1", "share 1"),
    "classes that leave no room": ("--wanted color=yellow --wanted color=red --share 0.5", "leave no room"),
    "a class of numbers": ("--wanted bright=red", "declares color"),
    "a task of classes without one": ("--wanted color", "name the class"),
    "a budget above the pool": ("--wanted color=yellow --share 0.05 --rounds 9 --budget 900", "lower it"),
    "the same class twice": ("--wanted color=yellow --wanted color=yellow", "must be another class of color"),
    "nothing known": ("--wanted color=yellow --known 0", "known 0.0: must be above 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_simulated_is_one_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    declare(tmp_path / "data")
    words, why = WRONG[case]
    assert run(f"simulate data --rounds 0 {words} --seeds 1 --start 4 --draws 64".split()) == 2
    assert why in one_line(capsys.readouterr().err)


def test_the_examples_run() -> None:
    done = doctest.testmod(module)
    assert (done.failed, done.attempted > 0) == (0, True)
