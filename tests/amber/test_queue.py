"""`amber queue`: what changed about each task, the measured gain of its head, and what to train again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.homes import copy_home, label, labels, work_in
from support.learned import planned, recipe
from support.queued import KEPT, answer_colors, known_at_import, make_queued
from support.refusals import refused

from amber.cli import run
from amber.queue import queue
from curation.catalog.catalog import Catalog
from training import evaluate, train
from training.judging.queue import GREW, QueueRow
from training.loop.refits import HELD_OUT

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A run of exact heads, which learned color from few labels."""
    return make_queued(tmp_path_factory.mktemp("queued"))


@pytest.fixture
def catalog(template: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    work_in(tmp_path, monkeypatch)
    return copy_home(template, tmp_path)


def answer_at_random(catalog: Catalog, task: str, count: int) -> None:
    """Labels of a binary task that say nothing."""
    with catalog.commit(author="bob", message="noise") as change:
        known = set(change.now.labels(task)["sample_id"].to_pylist())
        open_ = set(change.now.training_ids().tolist()) - known
        keys = [row["key"] for row in change.now.samples().to_pylist() if row["sample_id"] in open_][:count]
        flags = np.random.default_rng(0).random(len(keys)) < 0.3
        rows = [label(key, task, bool(flag), "bob") for key, flag in zip(keys, flags, strict=True)]
        change.add_labels(labels(rows), source="human")


def rows_of(catalog: Catalog, **more: Any) -> dict[str, QueueRow]:
    with catalog.read() as now:
        return {row.change.task: row for row in queue(catalog, now, **more)[0]}


def test_nothing_new_recommends_nothing(catalog: Catalog) -> None:
    found = rows_of(catalog)
    assert {row.action for row in found.values()} == {"nothing"}
    assert all(row.gain is None for row in found.values())
    assert not found["car"].change.stale


def test_new_labels_recommend_a_head_by_its_measured_gain(catalog: Catalog) -> None:
    answer_colors(catalog)
    found = rows_of(catalog)
    color = found["color"]
    assert color.action == "head"
    assert color.change.new == color.change.labels - KEPT
    assert color.gain
    assert color.gain.low > 0
    assert color.gain.judged_on == f"validation and {HELD_OUT}"
    assert {row.action for name, row in found.items() if name != "color"} == {"nothing"}
    assert next(iter(found)) == "color"


def test_labels_that_say_nothing_recommend_no_head(catalog: Catalog) -> None:
    answer_at_random(catalog, "car", 40)
    row = rows_of(catalog)["car"]
    assert (row.action, row.change.new) == ("nothing", 40)
    assert row.gain
    assert row.gain.low <= 0


def test_labels_that_grew_without_a_gain_recommend_a_branch(catalog: Catalog) -> None:
    answer_at_random(catalog, "bike", 120)
    row = rows_of(catalog)["bike"]
    assert row.change.labels >= GREW * row.change.labels_before
    assert row.action == "branch"
    assert "labels grew" in row.why


def test_without_validation_held_out_groups_judge(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="no validation") as change:
        held = [row["key"] for row in change.now.samples().to_pylist() if row["split"] == "validation"]
        change.add_attributes(pa.table({"key": held, "split": ["train"] * len(held)}))
    answer_colors(catalog)
    color = rows_of(catalog, tasks=["color"])["color"]
    assert color.gain
    assert color.gain.judged_on == HELD_OUT
    assert color.action == "head"


def test_corrected_and_retracted_labels_are_counted(catalog: Catalog) -> None:
    with catalog.commit(author="bob", message="look again") as change:
        rows = [row for row in known_at_import(change.now, "car") if row["code"] is not None][:5]
        given = [label(row["key"], "car", not row["code"], "bob") for row in rows[:3]]
        given += [label(row["key"], "car", None, "bob") for row in rows[3:]]
        change.add_labels(labels(given), source="human")
    found = rows_of(catalog, measure=False)["car"].change
    assert (found.new, found.corrected, found.gone) == (0, 3, 2)


def test_classes_in_another_order_change_no_label(catalog: Catalog, capsys: Capture) -> None:
    assert run(["tasks", "redefine", "color", "green", "yellow", "red"]) == 0
    assert not rows_of(catalog)["color"].change.stale
    with catalog.commit(author="bob", message="look again") as change:
        row = known_at_import(change.now, "color")[0]
        was = ("green", "yellow", "red")[row["code"]]
        other = "red" if was == "green" else "green"
        change.add_labels(labels([label(row["key"], "color", other, "bob")]), source="human")
    found = rows_of(catalog)["color"]
    assert (found.change.corrected, found.change.classes) == (1, ())
    assert "their order" in found.unmeasured


def test_changed_classes_need_a_new_head(catalog: Catalog, capsys: Capture) -> None:
    words = ["tasks", "redefine", "color", "red", "yellow", "green", "off"]
    assert run(words) == 0
    row = rows_of(catalog)["color"]
    assert (row.action, row.change.classes) == ("head", ("off is new",))


def test_a_run_without_the_features_is_not_measured(catalog: Catalog) -> None:
    answer_at_random(catalog, "car", 40)
    row = rows_of(catalog, embeddings="theirs")["car"]
    assert row.gain is None
    assert "theirs" in row.unmeasured
    assert row.action == "nothing"


def test_the_newest_decision_of_a_gate_stands_beside(catalog: Catalog, capsys: Capture) -> None:
    evaluate(train(recipe(heads="exact", hidden=0, seed=1), planned(catalog), catalog), catalog, author="ada")
    Path("gate.toml").write_text('[[judge]]\ntask = "car"\nmargin = "99 points"\n')
    assert run(["gate", "--gate", "gate.toml"]) == 0
    assert rows_of(catalog, measure=False)["car"].change.gate == "pass"


def test_the_table_and_json_say_the_same(catalog: Catalog, capsys: Capture) -> None:
    answer_at_random(catalog, "car", 40)
    capsys.readouterr()
    assert run(["queue", "--task", "car", "--no-measure", "--json"]) == 0
    out = capsys.readouterr()
    assert out.err == ""
    (row,) = json.loads(out.out)["tasks"]
    assert row["change"]["new"] == 40
    assert run(["queue", "--task", "car", "--no-measure"]) == 0
    assert "40 new" in " ".join(capsys.readouterr().out.split())


def test_an_unknown_task_is_refused(catalog: Catalog, capsys: Capture) -> None:
    assert "'colour'" in refused(capsys, "queue", "--task", "colour")
