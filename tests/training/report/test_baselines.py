"""Figures beside simple baselines: the best constant, and predictions of something else."""

import re
from html import unescape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.planted_runs import noisy, plant_run, planted_home

from curation.catalog.catalog import Catalog
from samplers.plan.plan import Plan
from training.report import write_report
from training.report.baselines import baselines_view, constant_of
from training.report.run_results import RunResults, load_results, registered_run


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Plan]:
    catalog, plan = planted_home(tmp_path_factory.mktemp("baselines"))
    plant_run(catalog, plan, "b0b0", lambda task: noisy(catalog, task, signal=6.0))
    return catalog, plan


@pytest.fixture(scope="module")
def results(planted: tuple[Catalog, Plan]) -> RunResults:
    catalog, plan = planted
    with catalog.read() as now:
        path = catalog.home / str(registered_run(now, "b0b0")["predictions"])
        return load_results(now, "b0b0", [task.name for task in plan.tasks], path)


def test_the_best_constant_is_that_of_the_training_labels(planted: tuple[Catalog, Plan]) -> None:
    catalog, plan = planted
    with catalog.read() as now:
        train = set(now.training_ids().tolist())
        rows = {name: now.labels(name).to_pylist() for name in ("color", "speed")}
    known = {
        name: [row for row in found if row["state"] == 1 and row["sample_id"] in train] for name, found in rows.items()
    }
    codes = [row["code"] for row in known["color"]]
    assert constant_of(plan, "color") == max(set(codes), key=codes.count)
    assert constant_of(plan, "speed") == pytest.approx(np.median([row["number"] for row in known["speed"]]))


def test_a_row_holds_the_run_the_constant_and_others(planted: tuple[Catalog, Plan], results: RunResults) -> None:
    _, plan = planted
    view = baselines_view(results, plan, {"itself": results.predictions})
    assert view["names"] == ["best constant", "itself"]
    (color,) = [row for row in view["rows"] if row["task"] == "color"]
    constant, itself = color["others"]
    assert color["n"] == int((results.samples.splits[results.predictions["color"].rows] == "test").sum())
    assert constant["entry"]["value"] == "0.333"  # balanced accuracy of one class of three
    assert constant["change"] == "better"
    assert float(constant["gap"].split()[0]) == pytest.approx(float(color["now"]["value"]) - 1 / 3, abs=0.002)
    assert (itself["gap"], itself["change"]) == ("+0.000 [+0.000, +0.000]", "")
    (speed,) = [row for row in view["rows"] if row["task"] == "speed"]  # it predicts 40 for every number
    assert speed["others"][0]["gap"].startswith(("+", "-"))


def test_the_page_shows_them(planted: tuple[Catalog, Plan], tmp_path: Path) -> None:
    catalog, _ = planted
    table: pa.Table = pq.read_table(catalog.home / "runs" / "b0b0" / "predictions.parquet")
    text = write_report(catalog, "b0b0", tmp_path / "report.html", baselines={"<i>other</i>": table}).read_text()
    section = text[text.index('<section id="baselines"') :]
    section = section[: section.index("</section>")]
    assert "<i>" not in section
    words = unescape(re.sub(r"<[^>]+>", " ", section))
    assert "<i>other</i>" in words
    assert "this run +0.000 [+0.000, +0.000]" in words
