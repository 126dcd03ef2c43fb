"""`amber compare` on planted runs: what is worse is found, what is not is not, and flipped images are shown."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.homes import copy_home
from support.planted_runs import noisy, plant_run, planted_home

from amber.cli import run
from amber.verbs.browse import browse_command
from curation.catalog.catalog import Catalog
from samplers.plan.plan import Plan

pytestmark = pytest.mark.filterwarnings("ignore:.*Polyfit")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Plan]:
    """`good` and `again` are equally good, `bad` knows less about the color."""
    catalog, plan = planted_home(tmp_path_factory.mktemp("compared"))
    plant_run(catalog, plan, "good", lambda task: noisy(catalog, task, signal=4.0))
    plant_run(catalog, plan, "again", lambda task: noisy(catalog, task, signal=4.0, seed=1))
    plant_run(
        catalog, plan, "bad",
        lambda task: noisy(catalog, task, signal=1.0 if task.name == "color" else 4.0, seed=2), parent="good",
    )  # fmt: skip
    return catalog, plan


@pytest.fixture
def home(made: tuple[Catalog, Plan], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AMBER_HOME", str(made[0].home))
    return made[0].home


def compared(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run(["compare", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    return found


def by_cell(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["task"], row["slice"]): row for row in found["figures"]}


@pytest.mark.usefixtures("home")
def test_a_worse_run_is_found_and_its_broken_images_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, "good", "bad")
    cells = by_cell(found)
    color, car = cells["color", ""], cells["car", ""]
    assert color["verdict"] == "worse"
    assert color["p"] < 0.01
    assert color["low"] <= color["difference"] <= color["high"] < 0
    assert car["verdict"] == "no difference shown"
    broken = [row for row in found["flips"] if row["task"] == "color" and row["what"] == "broken"]
    assert len(broken) == color["broken"]
    assert all(row["truth"] == row["first"] != row["second"] for row in broken)
    sure = [row["confidence"][1] for row in broken]
    assert sure[0] == max(sure)


@pytest.mark.usefixtures("home")
def test_the_two_runs_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    newest = compared(capsys)
    assert (newest["first"], newest["second"]) == ("good", "bad")  # its parent
    assert compared(capsys, "again")["first"] == "good"
    assert run(["compare", "good"]) == 2
    assert "no run was evaluated before it" in capsys.readouterr().err


@pytest.mark.usefixtures("home")
def test_equally_good_runs_do_not_differ_and_the_direction_turns(capsys: pytest.CaptureFixture[str]) -> None:
    there, back = (by_cell(compared(capsys, *names)) for names in (("good", "again"), ("again", "good")))
    assert {row["verdict"] for row in there.values()} == {"no difference shown"}
    for cell, row in there.items():
        other = back[cell]
        assert row["p"] == other["p"]
        assert (row["fixed"], row["broken"]) == (other["broken"], other["fixed"])
        ends = (-row["difference"], -row["high"], -row["low"])
        assert (other["difference"], other["low"], other["high"]) == pytest.approx(ends)


@pytest.mark.usefixtures("home")
def test_any_metric_is_compared_where_the_labels_define_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, "good", "bad", "--task", "color", "--metric", "f1:yellow", "--metric", "map")
    rows = {(row["slice"], row["measure"]): row for row in found["figures"]}
    assert rows["", "map"]["verdict"] == "worse"
    assert rows["", "f1:yellow"]["first"] > rows["", "f1:yellow"]["second"]
    assert rows["yellow", "map"]["verdict"] == "not enough data"
    assert rows["yellow", "map"]["doubt"] == "all labels are yellow"
    assert rows["yellow", "map"]["p"] is None


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["good", "good"], "cannot be compared with itself"),
        (["good", "nobody"], "nobody"),
        (["good", "bad", "--task", "things"], "run good: does not predict things"),
        (["good", "bad", "--task", "nothing"], "nothing"),
        (["good", "bad", "--metric", "auc"], "metric 'auc' of color: unknown"),
        (["good", "bad", "--metric", "f1:blue"], "'blue' is none of its classes (red, yellow, green)"),
    ],
)
def test_bad_input_is_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err
    assert err.count("\n") == 1


def test_tables_and_the_page_of_flipped_images(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["compare", "good", "bad", "--sheet", str(tmp_path / "flips.html")]) == 0
    out = capsys.readouterr().out
    assert "bad compared with good on test" in out
    assert "Flipped images:" in out
    assert "`amber browse --run bad --against good` shows all" in out
    page = (tmp_path / "flips.html").read_text()
    assert "color: " in page
    assert page.count("data:image/jpeg;base64,") >= 40


def test_flipped_images_are_opened_in_the_app(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(browse_command, "callback", lambda **words: calls.append(words))
    assert run(["compare", "good", "bad", "--app"]) == 0
    (words,) = calls
    assert (words["run_"], words["against"], words["view"]) == ("bad", "good", "flips color")
    assert words["port"] == 5151


@pytest.mark.usefixtures("home")
def test_a_slice_over_all_runs_shows_what_changed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    assert run(["runs", "--slice", "everything", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    color = {row["run"]: row for row in rows if row["task"] == "color"}
    assert list(color) == ["bad", "again", "good"]
    assert (color["bad"]["before"], color["bad"]["change"]["verdict"]) == ("good", "worse")
    assert color["bad"]["change"]["second"] == pytest.approx(color["bad"]["value"])
    assert (color["good"]["change"], color["good"]["doubt"]) == (None, "no run before")
    assert run(["runs", "--slice", "yellow"]) == 0
    out = capsys.readouterr().out
    assert "Runs on yellow" in out
    assert "points" in out
    assert run(["runs", "--slice", "nothing"]) == 2
    assert "no such slice" in capsys.readouterr().err


def test_attributes_that_are_no_slices_are_searched(
    made: tuple[Catalog, Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = copy_home(made[0], tmp_path)
    monkeypatch.setenv("AMBER_HOME", str(catalog.home))
    with catalog.read() as now:
        samples = now.samples()
    keys, groups = samples["key"].to_pylist(), samples["group"].to_pylist()
    wet = [int(name.split("-")[1]) % 3 == 0 for name in groups]
    with catalog.commit(author="ada", message="weather") as change:
        change.add_attributes(pa.table({"key": keys, "weather": ["wet" if each else "dry" for each in wet]}))
    chances = {}

    def worse_when_wet(task: Any) -> Any:
        chances[task.name] = np.where(
            np.array(wet)[:, None], noisy(catalog, task, signal=0.0, seed=3), noisy(catalog, task, signal=4.0)
        )
        return chances[task.name]

    plant_run(catalog, made[1], "wet", worse_when_wet)
    found = compared(capsys, "good", "wet", "--task", "color")["attributes"]
    assert (found[0]["slice"], found[0]["verdict"]) == ("weather = wet", "worse")
    assert "weather = dry" not in {row["slice"] for row in found}
    assert all(row["q"] <= 0.1 for row in found)


def test_a_slice_that_reads_what_a_run_does_not_predict_is_left_out(
    made: tuple[Catalog, Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = copy_home(made[0], tmp_path)
    monkeypatch.setenv("AMBER_HOME", str(catalog.home))
    with catalog.commit(author="ada", message="slice") as change:
        change.add_slice("predicted_car", "pred.car.value", task="color")
    plant_run(catalog, made[1], "blind", lambda task: noisy(catalog, task, signal=4.0, seed=5))
    path = catalog.home / "runs" / "blind" / "predictions.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pa.compute.not_equal(table["task"], "car")), path)
    with catalog.commit(author="ada", message="evaluate blind again") as change:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        change.add_run("blind", plan=made[1].hash, predictions="runs/blind/predictions.parquet", sha256=sha256)
    assert run(["compare", "good", "blind"]) == 0
    assert (
        "slice predicted_car is left out: reads pred.car, which run blind does not predict" in capsys.readouterr().err
    )
    assert "predicted_car" in {row["slice"] for row in compared(capsys, "good", "again")["figures"]}
