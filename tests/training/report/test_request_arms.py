"""The report and `arm_figures` say what each arm of requests found: rare samples, and errors of the run that asked."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from support.homes import label, labels
from support.planted_runs import noisy, plant_run, planted_home

from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from training.judging.request_arms import arm_figures
from training.report import write_report

CLASSES = ("red", "yellow", "green")
EACH, ANSWERED, RARE, WRONG = 12, 10, 3, 5
"""Of each arm: requests, answers, answers that are yellow (rare), and answers that the run did not predict."""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Two arms of requests that the run `one` was asked with, one of them answered, and a run `two` after that."""
    catalog, plan = planted_home(tmp_path_factory.mktemp("arms"))
    plant_run(catalog, plan, "one", lambda task: noisy(catalog, task, signal=1.0))
    with catalog.read() as now:
        predicted = now.runs.predictions("color", str(now.runs.predictions_file(catalog.home, "one")))
        free = predicted.filter(pc.invert(pc.is_in(predicted["sample_id"], value_set=now.labels("color")["sample_id"])))
        task = now.task_ids()["color"]
    yellow, others = (free.filter(pc.equal(free["code"], 1) if rare else pc.not_equal(free["code"], 1)).to_pylist()
                      for rare in (True, False))  # fmt: skip
    asked = [*yellow[:RARE], *others[: EACH - RARE]]
    rows = [
        {"sample_id": row["sample_id"], "task_id": task, "arm": arm, "slice": "", "reason": "r", "run": "one",
         "priority": 0, "propensity": 1.0, "cost": 1.0}
        for arm, part in (("trigger:flicker", asked), ("random", others[-4:])) for row in part
    ]  # fmt: skip
    with catalog.commit(author="ada", message="ask") as change:
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
    with catalog.commit(author="ada", message="answer") as change:
        open_ = change.now.requests("open").to_pylist()[:ANSWERED]
        turned = {row["sample_id"]: {0: 2, 2: 0}[row["code"]] for row in others[:WRONG]}
        code = {row["sample_id"]: turned.get(row["sample_id"], row["code"]) for row in asked}
        change.add_labels(
            labels([label(row["key"], "color", CLASSES[code[row["sample_id"]]]) for row in open_]), source="human"
        )
        change.close_requests([row["request_id"] for row in open_], state="answered")
    plant_run(catalog, plan, "two", lambda task: noisy(catalog, task, signal=1.0, seed=1))
    return catalog


def test_each_arm_has_its_counts_and_shares(catalog: Catalog) -> None:
    with catalog.read() as now:
        flicker, random = arm_figures(now, catalog.home)
    assert (flicker.arm, flicker.requested, flicker.answered) == ("trigger:flicker", EACH, ANSWERED)
    assert (flicker.rare.value, flicker.wrong.value) == (RARE / ANSWERED, WRONG / ANSWERED)
    assert flicker.wrong.low < flicker.wrong.value < flicker.wrong.high  # type: ignore[operator]
    assert (random.requested, random.answered, random.wrong.value) == (4, 0, None)


def test_a_run_that_is_gone_tells_nothing_about_its_errors(catalog: Catalog) -> None:
    path = catalog.home / "runs" / "one" / "predictions.parquet"
    kept = path.rename(path.with_suffix(".kept"))
    with catalog.read() as now:
        flicker = arm_figures(now, catalog.home)[0]
    kept.rename(path)
    assert (flicker.wrong.value, flicker.rare.value) == (None, RARE / ANSWERED)


def test_the_report_has_a_row_for_each_arm(catalog: Catalog, tmp_path: Path) -> None:
    page = write_report(catalog, "two", tmp_path / "report.html").read_text()
    section = page.split('id="requests"')[1].split("</section>")[0]
    assert np.all(
        [f">{name}</th><td>{count}</td>" in section for name, count in (("trigger:flicker", 12), ("random", 4))]
    )
    assert "<b>0.500</b>" in section
    assert 'id="requests"' not in write_report(catalog, "one", tmp_path / "before.html").read_text()
