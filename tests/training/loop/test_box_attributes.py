"""Attributes of boxes from labels to figures: they are learned, recorded beside each box, exported, reported."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from support.described_boxes import MARKS, PLATES, described_catalog, described_picture
from support.drawn_boxes import boxes_plan
from support.homes import label, labels
from support.refusals import refused

from amber.cli import run as amber
from curation import BadInput, Catalog
from curation.fiftyone_app.columns import label as shown_label
from curation.labelstudio.items import predicted_value
from samplers import Pack, Plan, stream
from samplers.streaming.materialize import materialize
from training import Recipe, Run, evaluate, train
from training.deployment.export import export_model
from training.deployment.prediction import images_of, predict_images
from training.evaluation.predictions import write_predictions
from training.evaluation.unseen import unseen_in_test
from training.loop.shard_feed import Shards
from training.network.model import load_any
from training.recipe import BoxRecipe
from training.report import write_report

RECIPE = Recipe.of("small", size=(64, 96), global_batch=16, threads=1, boxes=BoxRecipe(width=32, stride=4, most=20))

Figures = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return described_catalog(tmp_path_factory.mktemp("described"))


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> Plan:
    return boxes_plan(catalog, draws=2240, plates=1.0)[0]


@pytest.fixture(scope="module")
def learned(catalog: Catalog, plan: Plan) -> Run:
    run = train(RECIPE, plan, catalog)
    evaluate(run, catalog, author="ada")
    return run


@pytest.fixture(scope="module")
def figures(catalog: Catalog, learned: Run) -> Figures:
    with catalog.read() as now:
        rows = now.runs.slice_errors(learned.id).to_pylist()
    return {(row["metric"], row["split"]): row for row in rows if not row["slice"]}


def recorded(catalog: Catalog, run: Run) -> pa.Table:
    return pq.read_table(catalog.home / "runs" / run.id / "predictions.parquet")


def test_a_planted_attribute_and_number_are_learned(figures: Figures) -> None:
    assert figures["mark:accuracy", "test"]["low"] > 0.6  # the likeliest class is right on about 0.4
    assert figures["mark:accuracy_found", "test"]["low"] > 0.6
    assert figures["mark:recall", "test"]["low"] > 0.7
    assert figures["shade:mae", "test"]["high"] < 15  # the best constant errs by 25
    assert figures["shade:mae_found", "test"]["high"] < 15
    assert not [metric for metric, _ in figures if metric.startswith("lit")]
    with_mark = figures["mark:accuracy", "test"]
    assert with_mark["n"] == figures["shade:mae", "test"]["n"] > 40


def test_each_box_says_its_attributes_as_labels_do(catalog: Catalog, learned: Run) -> None:
    table = recorded(catalog, learned)
    boxes = [box for row in table["boxes"].to_pylist() for box in row]
    for box in boxes:
        said = dict(box["attributes"])
        assert set(said) == {"mark", "shade"}
        assert said["mark"] in MARKS
        assert np.isfinite(float(said["shade"]))
        (name, sure) = box["confidences"][0]
        assert name == "mark"
        assert 1 / 3 - 1e-6 <= sure <= 1
    given = dict(zip(table["key"].to_pylist(), table["given"].to_pylist(), strict=True))
    with catalog.read() as now:
        keys = dict(zip(*(now.samples()[name].to_pylist() for name in ("sample_id", "key")), strict=True))
        for row in now.labels("plates").to_pylist():
            mine = given[keys[row["sample_id"]]]
            assert [box["x"] for box in mine] == [box["x"] for box in row["boxes"]]


def test_the_app_and_label_studio_show_them(catalog: Catalog, learned: Run) -> None:
    row = recorded(catalog, learned).slice(0, 1).to_pylist()[0]
    first = row["boxes"][0]
    shown = shown_label(PLATES, row, (96, 64))["detections"][0]
    assert shown["attr_mark"] == dict(first["attributes"])["mark"]
    sure = [box for box in row["boxes"] if box["score"] >= 0.5]
    assert [box["attributes"] for box in predicted_value(PLATES, row)] == [box["attributes"] for box in sure]
    first["attributes"] = [("mark", "ring"), ("gone", "x")]
    assert "attributes" not in predicted_value(PLATES, {"boxes": [{**first, "score": 1.0}]})[0]


def test_figures_follow_labels_that_change_after_the_run(catalog: Catalog, learned: Run, tmp_path: Path) -> None:
    from training.evaluation.figures import slice_errors

    path = tmp_path / "predictions.parquet"
    table = recorded(catalog, learned)
    moved = table.set_column(
        table.schema.get_field_index("given"), "given",
        pa.array([[{**box, "x": box["x"] + 1} for box in row] for row in table["given"].to_pylist()],
                 table.schema.field("given").type),
    )  # fmt: skip
    write_predictions(path, [moved], moved.schema)
    with catalog.read() as now:
        rows = slice_errors(now, "moved", [now.task("plates")], path).to_pylist()
    by = {row["metric"]: row for row in rows if row["split"] == "test" and not row["slice"]}
    assert (by["mark:accuracy"]["n"], by["mark:accuracy"]["value"]) == (0, None)
    assert by["mark:accuracy_found"]["n"] > 0


def test_an_exported_network_says_what_was_recorded(catalog: Catalog, learned: Run, tmp_path: Path) -> None:
    made = export_model(learned, catalog, tmp_path / "out")
    assert made.differences.onnx_recorded <= 1e-4
    (task,) = json.loads((made.folder / "model.json").read_text())["tasks"]
    assert task["columns"][6:] == ["mark = none", "mark = dot", "mark = bar", "shade"]
    assert task["shape"] == ["batch", 20, 10]
    generator = np.random.default_rng(9)
    (tmp_path / "more").mkdir()
    picture, boxes = described_picture(generator)
    picture.save(tmp_path / "more" / "a.png")
    (row,) = predict_images(learned, catalog, images_of(tmp_path / "more", lambda *_: None)[0]).table.to_pylist()
    assert {name for box in row["boxes"] for name, _ in box["attributes"]} == {"mark", "shade"}
    assert len(boxes) == sum(box["score"] >= 0.3 for box in row["boxes"])


def test_the_report_shows_a_table_for_each(catalog: Catalog, learned: Run, tmp_path: Path) -> None:
    page = write_report(catalog, learned.id, tmp_path / "report.html").read_text()
    assert "<b>mark</b> of the boxes of plates, share that is right" in page
    assert "<b>shade</b> of the boxes of plates, mean absolute error in %" in page
    assert "<b>mark</b>: known class by row, predicted by column, boxes given" in page


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves shards to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_from_shards_come_the_same_values(catalog: Catalog, tmp_path: Path) -> None:
    plan, pack = boxes_plan(catalog, draws=64, plates=1.0)
    materialize(plan, pack, tmp_path / "draws", shard_bytes=100_000)
    shards = Shards(folder=tmp_path / "draws")
    with stream(plan, Pack.open(catalog.home, plan.pack_hash), 32, size=(64, 96), copy=True) as streamed:
        for one, other in zip(shards.batches(plan, 32, (64, 96)), streamed, strict=True):
            assert one.boxes is not None
            assert other.boxes is not None
            assert np.array_equal(one.boxes.values, other.boxes.values, equal_nan=True)


def test_a_run_continues_with_attributes_by_name(catalog: Catalog, learned: Run, tmp_path: Path) -> None:
    renamed = PLATES.model_copy(update={"attributes": (("shade", "%"), ("mark", ("bar", "dot", "none")))})
    with catalog.commit(author="ada", message="another order") as change:
        change.redefine_task(renamed, {})
    try:
        plan = boxes_plan(catalog, draws=16, plates=1.0)[0]
        assert [each.name for each in plan.tasks[0].attributes] == ["shade", "mark"]
        run = train(replace(RECIPE, learning_rate=1e-9), plan, catalog, parent=learned.id)
        assert run.alarms == []
        rows = {(r["metric"], r["split"]): r for r in evaluate(run, catalog, author="ada").to_pylist()}
        assert rows["mark:accuracy", "test"]["low"] > 0.6
        assert rows["shade:mae", "test"]["high"] < 15
    finally:
        with catalog.commit(author="ada", message="as before") as change:
            change.redefine_task(PLATES, {})


def test_what_cannot_be_learned_is_one_line(catalog: Catalog, plan: Plan, learned: Run) -> None:
    with catalog.read() as now:
        (line,) = unseen_in_test(now, plan)
    assert line == "plates: attribute lit is known of no box in training, so it is not learned; label some"
    path = catalog.home / "runs" / learned.id / "checkpoints" / "last.pt"
    before = path.read_bytes()
    weights = torch.load(path, weights_only=True)
    weights["boxes.plates.attributes.3.bias"][0] = torch.nan
    torch.save(weights, path)
    try:
        with pytest.raises(BadInput, match="task plates: predicts attributes that are no finite numbers"):
            evaluate(learned, catalog, author="ada", batch="again")
    finally:
        path.write_bytes(before)
    assert load_any(learned, plan.tasks, catalog.home)


def test_a_value_that_is_not_declared_is_refused(catalog: Catalog) -> None:
    box = {"class": "plate", "x": 1.0, "y": 1.0, "w": 9.0, "h": 9.0}
    for said in ({"mark": "ring"}, {"shade": "nan"}, {"shade": "dark"}):
        row = label("0000", "plates", [{**box, "attributes": list(said.items())}], annotator="bo")
        with (
            pytest.raises(BadInput, match="task plates declares other values"),
            catalog.commit(author="bo", message="wrong") as change,
        ):
            change.add_labels(labels([row]), source="human")


def test_the_verbs_show_and_compare_them(
    catalog: Catalog, learned: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(catalog.home.parent)  # the gate writes its report
    rules = tmp_path / "gate.toml"
    rules.write_text('[[judge]]\ntask = "plates"\nmargin = "40 points"\n')
    other = train(replace(RECIPE, seed=2), boxes_plan(catalog, draws=32, plates=1.0)[0], catalog)
    evaluate(other, catalog, author="ada")
    home = ["--home", str(catalog.home)]
    for command in (
        ["runs", "--slice", "everything"], ["compare", learned.id, other.id],
        ["gate", other.id, "--against", learned.id, "--author", "ada", "--gate", str(rules)],
        ["doubts", learned.id, "--split", "validation"],
    ):  # fmt: skip
        code = amber([*command, "--json", *home])
        printed = capsys.readouterr()
        assert code in (0, 10, 11), printed.err
        assert "Traceback" not in printed.err
        if command[0] == "runs":
            metrics = {row["metric"] for row in json.loads(printed.out)}
            assert {"mark:accuracy", "mark:accuracy_found", "mark:recall", "shade:mae"} <= metrics
    _judged_by_attributes(catalog, (learned, other), rules, capsys)
    words = ["forecast", "--task", "plates", "--metric", "shade:mae", "--target"]
    assert "shade:mae is an error above 0" in refused(capsys, *words, "-1", *home)
    assert "and a forecast takes 3" in refused(capsys, *words, "5", *home)  # runs on fewer numbers of labels
    assert "heads of a detection task are not solved" in refused(capsys, *words[:3], "--target", "0.5", *home)
    assert pc.sum(pc.equal(recorded(catalog, other)["task"], "plates")).as_py() == 160


def _judged_by_attributes(
    catalog: Catalog, runs: tuple[Run, Run], rules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`amber compare` gives both runs' figures, and the gate blocks a run that reads attributes much worse."""
    home, ids = ["--home", str(catalog.home)], [run.id for run in runs]
    metrics = ["mark:accuracy", "mark:recall", "shade:mae"]
    assert amber(["compare", *ids, *(f"--metric={metric}" for metric in metrics), "--json", *home]) == 0
    shown = {row["measure"]: row for row in json.loads(capsys.readouterr().out)["figures"] if not row["slice"]}
    with catalog.read() as now:
        recorded_figures = [
            {row["metric"]: row["value"] for row in now.runs.slice_errors(id_).to_pylist()
             if (row["slice"], row["split"]) == ("", "test")}
            for id_ in ids
        ]  # fmt: skip
    for metric in metrics:
        for side, figures in zip(("first", "second"), recorded_figures, strict=True):
            assert shown[metric][side] == pytest.approx(figures[metric])
    assert shown["shade:mae"]["unit"] == "%"
    assert (shown["shade:mae"]["difference"] > 0) == (shown["shade:mae"]["second"] > shown["shade:mae"]["first"])
    gate = ["gate", ids[1], "--against", ids[0], "--author", "ada", "--gate", str(rules), "--json", *home]
    rules.write_text('[[judge]]\ntask = "plates"\nmetric = "mark:accuracy"\nmargin = "5 points"\n')
    assert amber(gate) == 10
    capsys.readouterr()
    rules.write_text('[[judge]]\ntask = "plates"\nmetric = "shade:mae"\nmargin = "5 points"\n')
    assert "shade:mae is measured in %; write it as '5 %'" in refused(capsys, *gate)
    rules.write_text('[[judge]]\ntask = "plates"\nmetric = "lit:accuracy"\nmargin = "5 points"\n')
    assert "is not defined, because a run does not predict lit" in refused(capsys, *gate)
    rules.write_text('[[judge]]\ntask = "plates"\nmetric = "mark:f1"\nmargin = "5 points"\n')
    assert "a detection task has map, ap50, mark:accuracy" in refused(capsys, *gate)
