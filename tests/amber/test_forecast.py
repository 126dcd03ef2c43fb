"""`amber forecast`: curves of refitted heads and of runs, cost, and what is refused."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.homes import copy_home, label, labels, work_in
from support.learned import make_features, planned, recipe
from support.refusals import refused

from amber.cli import run
from curation.catalog.catalog import Catalog
from training import Run, evaluate, train
from training.judging.label_history import learned_labels

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rounds of labels of color, each with a run of exact heads; and a model from elsewhere."""
    folder = tmp_path_factory.mktemp("forecast")
    catalog = make_features(folder, samples=320)
    with catalog.commit(author="ada", message="slices") as change:
        change.add_slice("nowhere", "attr.night AND NOT attr.night", task="color")
        change.add_slice("doubtful", "pred.color.value = 'red'", task="color")
    for count in (0, 30, 60):
        _label(catalog, count)
        found = train(recipe(heads="exact", hidden=0), planned(catalog), catalog)
        evaluate(found, catalog, author="ada")
    return folder


def _label(catalog: Catalog, count: int) -> None:
    """The first `count` training images without a color get one at random, as far as the made vectors know it."""
    with catalog.commit(author="bob", message=f"{count} labels") as change:
        known = set(change.now.labels("color")["sample_id"].to_pylist())
        trained = set(change.now.training_ids().tolist()) - known
        rows = [row["key"] for row in change.now.samples().to_pylist() if row["sample_id"] in trained][:count]
        names = np.random.default_rng(count).choice(["red", "yellow", "green"], len(rows))
        if rows:
            given = [label(key, "color", str(name), "bob") for key, name in zip(rows, names, strict=True)]
            change.add_labels(labels(given), source="human")


@pytest.fixture(autouse=True)
def inside(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(made, monkeypatch)


def forecast(capsys: Capture, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["forecast", *words, "--json"]) == 0
    out = capsys.readouterr()
    assert out.err == ""
    found: dict[str, Any] = json.loads(out.out)
    return found


def test_heads_are_refitted_on_nested_parts_up_to_what_a_run_records(capsys: Capture) -> None:
    found = forecast(capsys, "--task", "color", "--target", "0.95")
    sizes = [point["labels"] for point in found["points"]]
    assert found["source"] == "refits"
    assert found["split"] == "validation"
    assert sizes == sorted(set(sizes))
    assert len(sizes) >= 5
    assert found["forecast"]["labels"] == sizes[-1]
    recorded = forecast(capsys, "--task", "color", "--target", "0.95", "--from-runs")["points"][-1]
    assert recorded["labels"] == sizes[-1]
    assert recorded["value"] == pytest.approx(found["points"][-1]["value"], abs=1e-9)


def test_each_run_is_a_point_with_its_labels(capsys: Capture) -> None:
    found = forecast(capsys, "--task", "color", "--target", "0.95", "--from-runs", "--slice", "night")
    sizes = [point["labels"] for point in found["points"]]
    assert [b - a for a, b in pairwise(sizes)] == [30, 60]
    assert len({point["run"] for point in found["points"]}) == 3


def test_numbers_have_a_target_in_their_own_unit(capsys: Capture) -> None:
    assert forecast(capsys, "--task", "speed", "--target", "2")["metric"] == "mae"


def test_a_slice_that_reads_predictions_is_forecast_from_runs(capsys: Capture) -> None:
    found = forecast(capsys, "--task", "color", "--target", "0.9", "--slice", "doubtful")
    assert found["source"] == "runs"
    assert "reads predictions" in found["notes"][0]


@pytest.mark.parametrize(
    ("words", "value", "fix"),
    [
        (["--task", "color", "--target", "95"], "--target 95", "write 0.95"),
        (["--task", "color", "--target", "nan"], "--target nan", "can have"),
        (["--task", "speed", "--target", "-1"], "--target -1", "above 0"),
        (["--task", "colour", "--target", "0.9"], "'colour'", "did you mean 'color'"),
        (["--task", "color", "--target", "0.9", "--slice", "fog"], "'fog'", "amber slices"),
        (["--task", "car", "--target", "0.9", "--slice", "yellow"], "slice yellow", "one of color"),
        (["--task", "things", "--target", "0.9"], "things", "amber train"),
        (["--task", "color", "--target", "0.9", "--slice", "nowhere"], "nowhere", "no label of"),
        (["--task", "color", "--target", "0.9", "--metric", "map"], "no metric map", "balanced_accuracy"),
        (["--task", "car", "--target", "0.9", "--from-runs"], "has 1 point", "takes 3"),
    ],
)
def test_is_refused_in_one_line(words: list[str], value: str, fix: str, capsys: Capture) -> None:
    line = refused(capsys, "forecast", *words)
    assert value in line
    assert fix in line


def test_features_that_cannot_be_read_are_named_where_runs_are_too_few(
    made: Path, tmp_path: Path, capsys: Capture
) -> None:
    home = copy_home(Catalog.open("home"), tmp_path).home
    next(home.glob("embeddings/*/vectors.npy")).write_bytes(b"")
    words = ["--target", "0.9", "--home", str(home)]
    line = refused(capsys, "forecast", "--task", "car", *words)
    assert "has 1 point" in line
    assert "vectors.npy" in line
    assert "vectors.npy" in forecast(capsys, "--task", "color", *words)["notes"][0]
    assert run(["tasks", "redefine", "color", "green", "yellow", "red", "--home", str(home)]) == 0
    assert "their order" in forecast(capsys, "--task", "color", *words)["notes"][0]


def test_a_run_that_learned_other_tasks_only_is_no_point(made: Path, tmp_path: Path, capsys: Capture) -> None:
    home = copy_home(Catalog.open("home"), tmp_path).home
    newest = forecast(capsys, "--task", "color", "--target", "0.9", "--from-runs")["points"][-1]["run"]
    made_run = Run.open(home, newest)
    only = replace(made_run.recipe, heads="drawn", optimizer="adamw", only=("car",))
    replace(made_run, recipe=only).save(home)
    found = forecast(capsys, "--task", "color", "--target", "0.9", "--home", str(home))
    assert newest not in {point["run"] for point in found["points"]}
    with Catalog.open(home).read() as now:
        assert learned_labels(home, Run.open(home, newest)).keys() == {"car"}
        known = now.labels.known(["color"])["sample_id"].to_numpy()
        assert found["points"][-1]["labels"] == len(np.intersect1d(known, now.training_ids()))


def test_text_says_how_many_and_what_they_cost(capsys: Capture) -> None:
    assert run(["forecast", "--task", "color", "--target", "0.9", "--slice", "everything", "--from-runs"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    more = re.search(
        r"balanced_accuracy 0\.9: at least (\d+) labels \(95%\), (\d+) more than there are; cost (\d+)", printed
    )
    assert more
    least, missing, cost = map(int, more.groups())
    assert least - missing == 201
    assert cost == missing  # no answer was timed, and a request costs 1


def test_runs_without_a_plan_are_named_and_left_out(made: Path, tmp_path: Path, capsys: Capture) -> None:
    catalog = copy_home(Catalog.open("home"), tmp_path)
    with catalog.read() as now:
        keys = [row["key"] for row in now.samples().to_pylist()]
        trained = now.samples().to_pylist()[int(now.training_ids()[0])]["key"]
    (tmp_path / "theirs.csv").write_text("key,color\n" + "".join(f"{key},red\n" for key in keys))
    home = ["--home", str(catalog.home)]
    assert run(["predictions", "import", str(tmp_path / "theirs.csv"), "--name", "theirs", *home]) == 0
    found = forecast(capsys, "--task", "color", "--target", "0.9", "--from-runs", *home)
    assert len(found["points"]) == 3
    assert "was imported" in found["notes"][0]
    assert run(["forget", trained, "--yes", *home]) == 0
    capsys.readouterr()
    assert "no run has a figure" in refused(capsys, "forecast", "--task", "color", "--target", "0.9", *home)
