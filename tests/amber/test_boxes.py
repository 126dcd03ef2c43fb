"""Boxes round a real Label Studio: a run's doubts are requested, people answer with boxes, the next run is better."""

from pathlib import Path
from typing import Any

import pytest
from support.drawn_boxes import SIGNS, boxes_catalog, boxes_of_images, boxes_plan
from support.label_requests import URL

from amber.run_overlay import overlay_of
from benchmarks.annotators import Annotator, Scripted
from curation import Catalog
from curation.analysis.coverage import coverage
from curation.fiftyone_app.columns import columns_of, field_types
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.pull import pull
from curation.labelstudio.push import Asking, push
from curation.requests.proposals import Proposal, propose
from training import Recipe, evaluate, train
from training.recipe import BoxRecipe
from training.report import write_report

IMAGES = 160
RECIPE = Recipe.of("small", size=(64, 96), global_batch=16, hidden=0, threads=1, boxes=BoxRecipe(width=32))


def trained(catalog: Catalog, draws: int) -> tuple[str, float]:
    """A run on the boxes that are known now, and its AP50 on test."""
    run = train(RECIPE, boxes_plan(catalog, draws=draws)[0], catalog)
    rows = evaluate(run, catalog, author="ada").to_pylist()
    wanted = {"task": "signs", "slice": "", "split": "test", "metric": "ap50"}
    return run.id, next(float(row["value"]) for row in rows if wanted.items() <= row.items())


@pytest.mark.usefixtures("studio")
def test_round_label_studio_boxes_get_better(
    tmp_path: Path, server: LabelStudioClient, people: dict[str, Annotator]
) -> None:
    catalog, truth = boxes_catalog(tmp_path, images=IMAGES, known=0.1, dark=False), boxes_of_images(IMAGES)
    with catalog.read() as now:
        known = sum(cell.known for cell in coverage(now).cells if cell.task == "signs")
    run, before = trained(catalog, 480)
    proposal = Proposal(budget=48, seed=0, run=run, random_share=0.25)
    propose(catalog, proposal, author="ada", batch="mine")
    with catalog.read() as now:
        asked = now.requests("open").to_pylist()
        groups = {row["sample_id"]: row["group"] for row in now.samples().to_pylist()}
    assert known == 8 + IMAGES // 2
    reasons = {row["reason"].partition(" =")[0] for row in asked if row["arm"] == "mined"}
    assert "boxes in doubt: sum of min(score, 1 - score)" in reasons
    assert reasons & {f"score of {name}" for name in SIGNS.classes}
    assert len({groups[row["sample_id"]] for row in asked}) == len(asked)

    made = push(catalog, server, Asking(prefill=True), url_for=URL)
    project = int(made.projects[0].rpartition("/")[2])
    item = people["ann"].next(project)
    assert item is not None
    assert "model: " in str(item["data"])
    drawn = [part["type"] for prediction in item["predictions"] for part in prediction["result"]]
    assert set(drawn) <= {"rectanglelabels", "choices"}

    def boxes_on(key: str, task: str) -> list[dict[str, Any]]:
        assert task == "signs"
        return truth[int(key)]

    with catalog.read() as now:
        tasks = now.tasks()
    people["ann"].work(project, Scripted(tasks, boxes_on, error=0.0, unsure=0.0, size=(96, 64)))
    assert pull(catalog, server).labels == len(asked)
    with catalog.read() as now:
        answered = {row["sample_id"]: row["boxes"] for row in now.labels("signs").to_pylist()}
        keys = {row["sample_id"]: row["key"] for row in now.samples().to_pylist()}
    sample = next(row["sample_id"] for row in asked if truth[int(keys[row["sample_id"]])])
    first = truth[int(keys[sample])][0]
    assert [answered[sample][0][side] for side in "xywh"] == pytest.approx([first[side] for side in "xywh"], abs=0.01)
    run, after = trained(catalog, 960)
    assert after > before + 0.05
    page = write_report(catalog, run, tmp_path / "report.html").read_text()
    assert "Known boxes have a whole outline" in page
    with catalog.read() as now:
        scene = overlay_of(catalog.home, now, run, "")
        types, found = field_types(now, scene), columns_of(now, scene, lambda key, where: None)
    assert types["pred_signs"] == "Detections"
    shown = [part["label"] for label in found["pred_signs"] if label for part in label["detections"]]
    assert set(shown) <= set(SIGNS.classes)
