"""Coverage and natural priors, against a plain count."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from homes import copy_home, label, labels, make_home

from curation import Catalog
from curation.coverage import Coverage, coverage
from curation.oracle import answer, hold_back
from curation.priors import natural_prior
from curation.requests import Proposal, propose


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = make_home(tmp_path_factory.mktemp("coverage"), samples=80)
    with catalog.commit(author="ada", message="doubts") as change:
        rows = [label(f"pictures/{number:05d}", "color", None, "ada") for number in range(0, 80, 7)]
        change.add_labels(labels(rows), source="human")
        change.add_slice("doubtful", "pred.car.confidence < 0.6")
    return catalog


@pytest.fixture
def catalog(original: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(original, tmp_path)


def counted(catalog: Catalog) -> Coverage:
    with catalog.read() as now:
        return coverage(now)


@pytest.mark.parametrize("task", ["color", "car", "bike", "speed", "things"])
def test_cells_agree_with_a_plain_count(original: Catalog, task: str) -> None:
    with original.read() as now:
        samples, current = now.samples().to_pylist(), {row["sample_id"]: row for row in now.labels(task).to_pylist()}
        dark = {row["sample_id"] for row in now.attribute("night").to_pylist() if row["value"]}
        classes = now.task(task).classes
    cells = {(cell.task, cell.slice, cell.split): cell for cell in counted(original).cells}
    for name, split in [("", "train"), ("", "test"), ("", "validation"), ("night", "train"), ("night", "test")]:
        ids = [row["sample_id"] for row in samples if row["split"] == split]
        rows = [current.get(id_) for id_ in ids if not name or id_ in dark]
        cell = cells[task, name, split]
        assert cell.samples == len(rows)
        assert cell.unknown == rows.count(None)
        assert (cell.known, cell.unsure) == tuple(
            sum(row is not None and row["state"] == s for row in rows) for s in (1, 2)
        )
        seen = Counter(classes[row["code"]] for row in rows if row and row["code"] is not None)
        assert {name: count for name, count in cell.counts.items() if count} == seen


def test_slices_are_counted_for_their_task_and_not_over_predictions(original: Catalog) -> None:
    cells = {(cell.slice, cell.task) for cell in counted(original).cells}
    assert {task for name, task in cells if name == "yellow"} == {"color"}
    assert {task for name, task in cells if name == "night"} == {"color", "car", "bike", "speed", "things"}
    assert "doubtful" not in {name for name, _ in cells}


def test_overlap_counts_what_is_known_for_both(original: Catalog) -> None:
    found = counted(original).overlap
    with original.read() as now:
        train = set(now.training_ids().tolist())
        known = {
            task: {row["sample_id"] for row in now.labels(task).to_pylist() if row["state"] == 1} & train
            for task in now.tasks()
        }
    assert found == {a: {b: len(known[a] & known[b]) for b in known} for a in known}


def test_coverage_of_an_empty_catalog(tmp_path: Path) -> None:
    assert counted(Catalog.create(tmp_path)) == Coverage(commit=0, samples=0, cells=(), overlap={})


def test_prior_is_of_the_validation_split(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="validation") as change:
        keys = [f"pictures/{number:05d}" for number in range(10)]
        change.add_attributes(pa.table({"key": keys, "split": ["validation"] * 10}))
        colors = ["red"] * 6 + ["green"] * 4
        change.add_labels(
            labels([label(k, "color", c, "ada") for k, c in zip(keys, colors, strict=True)]), source="human"
        )
    with catalog.read() as now:
        prior = natural_prior(now, now.task("color"))
    assert prior.tolist() == pytest.approx(np.array([6.5, 0.5, 4.5]) / 11.5)


def test_prior_without_validation_is_of_the_random_arm(catalog: Catalog) -> None:
    with catalog.read() as now:
        assert natural_prior(now, now.task("bike")).tolist() == [0.5, 0.5]
        keys = now.samples()["key"].to_pylist()
    hold_back(catalog.home, labels([label(key, "bike", True) for key in keys]))
    propose(catalog, Proposal(budget=10, seed=0, random_share=0.6, importance={"bike": 1.0}), author="ada", batch="ask")
    answer(catalog, batch="answer")
    with catalog.read() as now:
        at_random = now.requests("answered").filter(pc.field("arm") == "random")
        assert len(at_random) == 6
        assert natural_prior(now, now.task("bike")).tolist() == pytest.approx([0.5 / 7, 6.5 / 7])
