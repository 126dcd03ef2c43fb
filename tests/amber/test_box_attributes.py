"""Attributes of boxes round a real Label Studio: doubts are requested, people answer, the next run reads better."""

from pathlib import Path
from typing import Any

import pytest
from support.described_boxes import MARKS, described_boxes_of_images, described_catalog
from support.drawn_boxes import boxes_plan
from support.label_requests import URL

from benchmarks.annotators import Annotator, Scripted
from curation import Catalog
from curation.analysis.box_attributes import attribute_counts
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.pull import pull
from curation.labelstudio.push import Asking, push
from curation.requests.proposals import Proposal, choose_requests, propose
from training import Recipe, evaluate, train
from training.recipe import BoxRecipe

IMAGES, LABELLED, BUDGET, DRAWS = 240, 6, 90, 640
RECIPE = Recipe.of("small", size=(64, 96), global_batch=16, threads=1, boxes=BoxRecipe(width=32, stride=4, most=20))


def trained(catalog: Catalog, draws: int) -> tuple[str, dict[str, float]]:
    run = train(RECIPE, boxes_plan(catalog, draws=draws, plates=1.0)[0], catalog)
    rows = evaluate(run, catalog, author="ada").to_pylist()
    return run.id, {row["metric"]: row["value"] for row in rows if (row["slice"], row["split"]) == ("", "test")}


@pytest.mark.usefixtures("studio")
def test_round_label_studio_attributes_are_read_better(
    tmp_path: Path, server: LabelStudioClient, people: dict[str, Annotator]
) -> None:
    catalog = described_catalog(tmp_path, images=IMAGES, known=1.0, labelled=LABELLED)
    truth = described_boxes_of_images(IMAGES)
    run, before = trained(catalog, DRAWS)
    proposal = Proposal(budget=BUDGET, seed=0, run=run, random_share=0.25)
    propose(catalog, proposal, author="ada", batch="mine")
    with catalog.read() as now:
        asked, counted = now.requests("open").to_pylist(), attribute_counts(now)
    reasons = {row["reason"].partition(" =")[0] for row in asked if row["arm"] == "mined"}
    assert "boxes and their attributes in doubt: decisions expected to be wrong" in reasons
    named = {reason.removeprefix("score of mark ") for reason in reasons if reason.startswith("score of mark ")}
    (marks,) = (row.counts for row in counted if (row.attribute, row.split) == ("mark", "train"))
    assert min(marks, key=lambda name: marks[name]) in named <= set(MARKS)

    made = push(catalog, server, Asking(prefill=True), url_for=URL)
    project = int(made.projects[0].rpartition("/")[2])

    def boxes_on(key: str, task: str) -> list[dict[str, Any]]:
        assert task == "plates"
        return truth[int(key)]

    with catalog.read() as now:
        tasks = now.tasks()
    people["ann"].work(project, Scripted(tasks, boxes_on, error=0.0, unsure=0.0, size=(96, 64)))
    assert pull(catalog, server).labels == len(asked)
    _, after = trained(catalog, DRAWS)
    assert after["shade:mae"] < before["shade:mae"] - 3
    assert after["mark:accuracy"] > before["mark:accuracy"]
    assert after["mark:accuracy"] > 0.9  # the likeliest mark is right on about 0.4


def test_a_run_without_attributes_is_asked_for_boxes_alone(tmp_path: Path) -> None:
    """Where nothing is known of an attribute in training, the run predicts none, and requests name none."""
    catalog = described_catalog(tmp_path, images=80, known=0.0, labelled=20)
    run, _ = trained(catalog, 64)
    with catalog.read() as now:
        rows = choose_requests(now, Proposal(budget=5, seed=0, run=run, random_share=0), catalog.home)
    assert [row["arm"] for row in rows] == ["mined"] * 5
    assert not any("mark" in str(row["reason"]) for row in rows)
