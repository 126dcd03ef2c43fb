"""A task of several classes through all verbs, and round a real Label Studio: its rare class is mined and learned."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.homes import copy_home
from support.label_requests import URL
from support.learned import planned, recipe
from support.marked import CLASSES, make_marked, truth_of
from support.refusals import refused

from amber.cli import run as amber
from benchmarks.annotators import Annotator, Scripted
from curation import Catalog
from curation.fiftyone_app.columns import Overlay, columns_of, field_types
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.pull import pull
from curation.labelstudio.push import Asking, push
from curation.requests.proposals import Proposal, propose
from training import Run, evaluate, train
from training.evaluation.metrics import RankingSums
from training.report.page import write_report

EXACT = recipe(heads="exact", hidden=0)
SAMPLES = 240


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Run, Run]:
    """A solved run and one that learned from few draws, evaluated."""
    catalog = make_marked(tmp_path_factory.mktemp("several"), samples=SAMPLES, partial=0.2, signal=3.0)
    plan = planned(catalog, draws=160)
    runs = [train(made, plan, catalog) for made in (EXACT, recipe(heads="drawn", learning_rate=0.02))]
    for run in runs:
        evaluate(run, catalog, author="eve")
    return catalog, runs[0], runs[1]


@pytest.fixture
def here(
    trained: tuple[Catalog, Run, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Catalog, Run, Run]:
    """A copy, in which verbs work."""
    copy = copy_home(trained[0], tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMBER_HOME", str(copy.home))
    monkeypatch.setenv("AMBER_AUTHOR", "eve")
    return copy, trained[1], trained[2]


def shown(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert amber(list(words)) == code
    return " ".join(capsys.readouterr().out.split())


def test_the_report_has_a_table_by_class(trained: tuple[Catalog, Run, Run], tmp_path: Path) -> None:
    catalog, run, _ = trained
    page = write_report(catalog, run.id, tmp_path / "report.html").read_text()
    section = page[page.index('id="lists"') :]
    assert all(f">{name}</th>" in section for name in CLASSES)
    assert "not every class was looked for in every image" in section
    assert page.count("mean AP") >= 1
    assert "Precision of" in section


def test_two_runs_are_compared_and_gated(here: tuple[Catalog, Run, Run], capsys: pytest.CaptureFixture[str]) -> None:
    _, exact, drawn = here
    out = shown(capsys, "compare", drawn.id, exact.id, "--metric", "map", "--metric", "ap:car")
    assert "map" in out
    assert "ap:car" in out
    Path("gate.toml").write_text(
        '[[judge]]\ntask = "seen"\nmargin = "20 points"\n'
        '[[judge]]\ntask = "seen"\nmetric = "f1:car"\nmargin = "20 points"\n'
    )
    assert "pass" in shown(capsys, "gate", exact.id, "--against", drawn.id, "--gate", "gate.toml")
    line = refused(capsys, "compare", drawn.id, exact.id, "--task", "seen", "--metric", "ap:tram")
    assert line.startswith("amber: metric 'ap:tram' of seen: a multilabel task has map, macro_f1, micro_f1, ap:CLASS")


def test_predictions_of_another_model_are_judged_alike(
    here: tuple[Catalog, Run, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    catalog, exact, _ = here
    table = pq.read_table(catalog.home / "runs" / exact.id / "predictions.parquet")
    mine = table.filter(pc.equal(table["task"], "seen")).select(["key", "task", "probabilities"])
    pq.write_table(mine, "other.parquet")
    out = shown(capsys, "predictions", "import", "other.parquet", "--name", "other")
    with catalog.read() as now:
        ids = [row["run"] for row in now.runs().to_pylist()]
        first, second = (
            {(r["slice"], r["split"], r["metric"]): r["value"] for r in now.runs.slice_errors(id_).to_pylist()
             if r["task"] == "seen"}
            for id_ in (exact.id, ids[-1])
        )  # fmt: skip
    assert first == second
    assert "macro_f1" in out
    pq.write_table(mine.drop_columns("probabilities").append_column("class", [["car"] * len(mine)]), "bad.parquet")
    line = refused(capsys, "predictions", "import", "bad.parquet", "--name", "bad")
    assert "seen is a multilabel task, which is judged by a probability for each class" in line


def test_thresholds_of_the_owner_decide(here: tuple[Catalog, Run, Run], capsys: pytest.CaptureFixture[str]) -> None:
    catalog, exact, _ = here
    count = _predicted_buses(catalog, exact)
    shown(capsys, "tasks", "redefine", "seen", "--decide", "bus=0.05")
    shown(capsys, "evaluate", exact.id)
    assert _predicted_buses(catalog, exact) > count
    line = refused(capsys, "tasks", "redefine", "seen", "--decide", "balanced")
    assert "each class of a multilabel task is decided alone" in line


def _predicted_buses(catalog: Catalog, run: Run) -> int:
    with catalog.read() as now:
        file = str(now.runs.predictions_file(catalog.home, run.id))
        return len(now.members("list_contains(pred.seen.value, 'bus')", predictions=file))


def test_requests_mine_the_rare_class_and_classes_that_nobody_looked_for(here: tuple[Catalog, Run, Run]) -> None:
    catalog, exact, _ = here
    proposal = Proposal(budget=24, seed=0, run=exact.id, importance={"seen": 1.0}, random_share=0.0)
    propose(catalog, proposal, author="eve", batch="mine")
    with catalog.read() as now:
        asked = now.requests("open").to_pylist()
        looked = {row["sample_id"]: row["looked"] for row in now.labels("seen").to_pylist()}
        partial = {sample for sample, classes in looked.items() if classes is not None}
        groups = {row["sample_id"]: row["group"] for row in now.samples().to_pylist()}
    assert {row["sample_id"] for row in asked} <= partial  # all others are labelled
    bus = [row["sample_id"] for row in asked if row["reason"].startswith("chance to be bus")]
    assert not any(CLASSES.index("bus") in looked[sample] for sample in bus)  # nobody is asked what is known
    assert {row["reason"].split(" =")[0] for row in asked} == {
        "chance to be bus", "classes in doubt: sum of min(p, 1 - p)",
    }  # fmt: skip
    first = [groups[row["sample_id"]] for row in asked[:6]]
    assert len(set(first)) == len(first)


def test_the_app_shows_labels_predictions_and_errors(trained: tuple[Catalog, Run, Run]) -> None:
    catalog, run, _ = trained
    with catalog.read() as now:
        scene = Overlay(run=run.id, predictions=str(now.runs.predictions_file(catalog.home, run.id)))
        types, found = field_types(now, scene), columns_of(now, scene, lambda key, where: None)
    assert (types["pred_seen"], types["error_seen"]) == ("Classifications", "float")
    parts = [part for label in found["pred_seen"] for part in label["classifications"]]
    assert {part["label"] for part in parts} <= set(CLASSES)
    assert all(0.5 <= part["confidence"] <= 1 for part in parts)
    errors = [error for error in found["error_seen"] if error is not None]
    assert len(errors) == SAMPLES
    assert 0 < np.mean(errors) < 0.2


@pytest.mark.usefixtures("studio")
def test_round_label_studio_the_rare_class_gets_better(
    tmp_path: Path, server: LabelStudioClient, people: dict[str, Annotator]
) -> None:
    """Reader to plan to run to requests to people's answers to a better run, above the majority."""
    catalog = make_marked(tmp_path, samples=SAMPLES, labelled=24, signal=2.5)
    truth = truth_of(SAMPLES)
    run = train(EXACT, planned(catalog, draws=64), catalog)
    before = evaluate(run, catalog, author="eve")
    proposal = Proposal(budget=48, seed=0, run=run.id, importance={"seen": 1.0}, random_share=0.15)
    propose(catalog, proposal, author="eve", batch="mine")
    made = push(catalog, server, Asking(), url_for=URL)
    with catalog.read() as now:
        tasks, asked = now.tasks(), now.requests("open").to_pylist()
    assert {row["arm"] for row in asked} >= {"mined", "random"}

    def named(key: str, task: str) -> list[str]:
        assert task == "seen"
        return [CLASSES[code] for code in np.flatnonzero(truth[int(key.rpartition("/")[2])])]

    project = int(made.projects[0].rpartition("/")[2])
    item = people["ann"].next(project)
    assert item is not None
    assert "model: " in str(item["data"])
    (filled,) = item["predictions"]
    assert filled["result"] == []  # nothing is filled in by default
    people["ann"].work(project, Scripted(tasks, named, error=0.0, unsure=0.0))
    assert pull(catalog, server).labels == 48
    after = evaluate(train(EXACT, planned(catalog, draws=64), catalog), catalog, author="eve")
    values = [
        {row["metric"]: row["value"] for row in rows.to_pylist()
         if (row["task"], row["slice"], row["split"]) == ("seen", "", "test")}
        for rows in (before, after)
    ]  # fmt: skip
    assert values[1]["map"] > values[0]["map"] + 0.05
    test = truth[np.arange(SAMPLES) // 4 % 5 == 4]
    majority = [
        RankingSums.of(column, np.zeros(len(test)), np.ones(len(test))).average_precision() for column in test.T
    ]
    assert values[1]["map"] > 2 * np.mean([value for value in majority if value is not None])
