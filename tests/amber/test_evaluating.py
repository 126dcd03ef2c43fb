"""`amber evaluate`: figures by the labels known now, labels of test images, and the error that they estimate."""

import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.homes import copy_home, work_in
from support.judged import answer, judged_home, truth_of
from support.refusals import refused

from amber.cli import run
from curation.catalog.catalog import Catalog
from training.evaluation.figures import slice_errors
from training.evaluation.predictions import Samples, labelled_predictions

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return judged_home(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def catalog(planted: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """A copy in the current folder."""
    work_in(tmp_path, monkeypatch)
    return copy_home(planted, tmp_path)


def read(capsys: Capture, *words: str) -> dict[str, object]:
    assert run(["evaluate", "new", *words, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def true_error(catalog: Catalog, slice_: str = "") -> float:
    """The share of test images of a slice whose made-up color `new` predicts wrong."""
    truth, codes = truth_of(catalog), {"red": 0, "yellow": 1, "green": 2}
    with catalog.read() as now:
        samples, table = Samples.at(now), pq.read_table(now.runs.predictions_file(catalog.home, "new"))
        known = labelled_predictions(now, now.task("color"), samples, table)
    mine = table.filter(pc.equal(table["task"], "color"))
    wrong = np.array([code != codes[truth[place]] for place, code in enumerate(mine["code"].to_pylist())])
    wrong[known.rows] = known.errors > 0  # these labels are known
    return float(wrong[samples.splits == "test"].mean())


def test_the_error_is_estimated_from_labels_that_were_asked_for(catalog: Catalog, capsys: Capture) -> None:
    asked = read(capsys, "--estimate", "all", "--task", "color", "--ask", "90")
    assert asked["requests"] == {"color": 90}
    answer(catalog, truth_of(catalog))
    (row,) = read(capsys, "--estimate", "all", "--task", "color")["estimates"]  # type: ignore[misc]
    assert (row["metric"], row["missing"]) == ("error", "")
    assert row["low"] < true_error(catalog) < row["high"]
    assert row["errors"] >= 20
    assert run(["evaluate", "new", "--estimate", "all", "--task", "color"]) == 0
    assert "for its test images" in capsys.readouterr().out


def figures(catalog: Catalog) -> dict[str, tuple[int, float]]:
    """Number of labels and accuracy of color on test by slice."""
    with catalog.read() as now:
        task = now.task("color").model_copy(update={"metric": "accuracy"})
        rows = slice_errors(now, "new", [task], now.runs.predictions_file(catalog.home, "new")).to_pylist()
    return {row["slice"]: (row["n"], row["value"]) for row in rows if row["split"] == "test"}


def test_figures_weigh_these_labels_and_move_towards_the_truth(catalog: Catalog, capsys: Capture) -> None:
    before = figures(catalog)[""][1]
    read(capsys, "--estimate", "all", "--task", "color", "--ask", "90")
    answer(catalog, truth_of(catalog))
    true = 1 - true_error(catalog)
    assert abs(figures(catalog)[""][1] - true) < 0.06 < before - true  # labels known before were easier


def test_labels_for_a_slice_count_there_and_in_its_parts_alone(catalog: Catalog, capsys: Capture) -> None:
    before = figures(catalog)
    with catalog.commit(author="ada", message="part") as change:
        change.add_slice("early_night", "attr.night AND attr.key < 'pictures/00400'")
    read(capsys, "--estimate", "night", "--task", "color", "--ask", "20")
    answer(catalog, truth_of(catalog))
    after = figures(catalog)
    assert after["night"][0] == before["night"][0] + 20
    assert after["early_night"][0] > 0
    assert (after[""], after["yellow"]) == (before[""], before["yellow"])


def test_a_slice_of_the_label_itself_is_drawn_from_all_that_could_be_in_it(catalog: Catalog, capsys: Capture) -> None:
    read(capsys, "--estimate", "yellow", "--ask", "120")
    answer(catalog, truth_of(catalog))
    assert run(["evaluate", "new", "--estimate", "yellow", "--json"]) in (0, 2)
    with catalog.read() as now:
        drawn = now.requests("answered")
        labels = now.labels("color")
        codes = dict(zip(labels["sample_id"].to_pylist(), labels["code"].to_pylist(), strict=True))
    assert {codes[sample] for sample in drawn["sample_id"].to_pylist()} == {0, 1, 2}


REFUSED = {
    "too few errors": (["new", "--estimate", "all", "--task", "bike"], "errors in", "--ask N"),
    "no such slice": (["--estimate", "dusk"], "slice 'dusk'", "amber slices"),
    "no such run": (["nine"], "'nine'", "amber runs"),
    "no such task": (["--estimate", "all", "--task", "colour"], "'colour'", "color"),
    "a task that the run does not predict": (["--estimate", "all", "--task", "things"], "things", "another run"),
    "a task that the slice is not of": (["--estimate", "yellow", "--task", "car"], "the task color", "leave --task"),
    "a slice over predictions": (["--estimate", "guessed"], "reads predictions", "attributes or labels"),
    "a slice over the number": (["--estimate", "fast", "--task", "speed"], "label.speed", "another slice"),
    "less than one label": (["--estimate", "all", "--ask", "0"], "--ask 0", "raise it"),
    "more labels than images": (["--estimate", "night", "--task", "car", "--ask", "9999"], "--ask 9999", "ask for 1"),
    "labels for no slice": (["--ask", "4"], "--ask", "name a slice"),
    "no author": (["--estimate", "all", "--ask", "4", "--author", " "], "author ''", "--author"),
}  # fmt: skip


@pytest.fixture(scope="module")
def refusing(planted: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with two more slices, which nothing changes."""
    folder = tmp_path_factory.mktemp("refusing")
    with copy_home(planted, folder).commit(author="ada", message="slices") as change:
        change.add_slice("guessed", "pred.color.value = 'red'")
        change.add_slice("fast", "label.speed > 50")
    return folder


@pytest.mark.parametrize(("words", "value", "fix"), REFUSED.values(), ids=REFUSED)
def test_is_refused_in_one_line(
    words: list[str], value: str, fix: str, refusing: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    work_in(refusing, monkeypatch)
    line = refused(capsys, "evaluate", *words)
    assert value in line
    assert fix in line
