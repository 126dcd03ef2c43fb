"""Coverage and natural priors, against a plain count."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from support.homes import copy_home, label, labels, make_home

from curation import Catalog, Task
from curation.analysis.coverage import Coverage, coverage
from curation.analysis.priors import natural_prior
from curation.catalog.held_back_labels import hold_back
from curation.requests.oracle import answer
from curation.requests.proposals import Proposal, propose


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


def codes_of(row: dict[str, Any]) -> set[int]:
    """The classes of a label, each once."""
    listed = [box["code"] for box in row["boxes"] or ()]
    return {*listed, *(row["codes"] or ()), *([] if row["code"] is None else [row["code"]])}


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
        seen = Counter(classes[code] for row in rows if row for code in codes_of(row))
        assert {name: count for name, count in cell.counts.items() if count} == seen


def test_slices_are_counted_for_their_task_and_not_over_predictions(original: Catalog) -> None:
    cells = {(cell.slice, cell.task) for cell in counted(original).cells}
    assert {task for name, task in cells if name == "yellow"} == {"color"}
    assert {task for name, task in cells if name == "night"} == {"color", "car", "bike", "speed", "things"}
    assert "doubtful" not in {name for name, _ in cells}


def test_overlap_counts_samples_known_for_both_tasks(original: Catalog) -> None:
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


def test_a_label_without_classes_is_known(catalog: Catalog) -> None:
    box = {"class": "light", "x": 2.0, "y": 2.0, "w": 5.0, "h": 8.0}
    with catalog.commit(author="ada", message="boxes") as change:
        change.add_tasks([Task(name="weather", kind="multilabel", classes=("wet", "snow"), owner="ada")])
        rows = [label("pictures/00041", "things", [], "ada"), label("pictures/00042", "things", [box, box], "ada")]
        rows.append(label("pictures/00043", "things", None, "ada"))
        for number, names in ((41, []), (42, ["wet"]), (43, ["wet", "snow"])):
            rows.append({**label(f"pictures/{number:05d}", "weather", None, "ada"), "state": "known", "names": names})
        change.add_labels(labels(rows), source="human")
    cells = {cell.task: cell for cell in counted(catalog).cells if (cell.slice, cell.split) == ("", "test")}
    assert (cells["things"].known, cells["things"].none, cells["things"].counts) == (3, 1, {"light": 2})
    assert cells["things"].unsure == 1
    assert (cells["weather"].known, cells["weather"].none) == (3, 1)
    assert cells["weather"].counts == {"wet": 2, "snow": 1}
    assert (cells["weather"].unknown, cells["color"].none) == (cells["weather"].samples - 3, 0)


def test_who_labelled_how_many(original: Catalog) -> None:
    found = {(part.task, part.annotator, part.source): part.labels for part in counted(original).annotators}
    with original.read() as now:
        said = Counter((row["annotator"], row["source"]) for row in now.labels.by_annotator("color").to_pylist())
    assert {(name, source): n for (task, name, source), n in found.items() if task == "color"} == said


def test_all_samples_count_before_the_first_split(tmp_path: Path) -> None:
    catalog = make_home(tmp_path, samples=8)
    with catalog.read() as now:
        rows = now.samples().select(["key", "location", "sha256", "format", "width", "height", "bytes"])
    fresh = Catalog.create(tmp_path / "unsplit")
    with fresh.commit(author="ada", message="unsplit") as change:
        change.add_samples(rows.append_column("phash", pa.array([0] * 8, pa.uint64())), dataset="pictures")
        change.add_tasks([Task(name="car", kind="binary", owner="bob"), Task(name="bike", kind="binary", owner="bob")])
        said = [label(f"pictures/{n:05d}", task, True) for task, most in (("car", 5), ("bike", 3)) for n in range(most)]
        change.add_labels(labels(said), source="import")
    found = counted(fresh)
    cells = {(cell.task, cell.split): (cell.samples, cell.known) for cell in found.cells}
    assert (cells["car", "unsplit"], cells["car", "train"], found.split) == ((8, 5), (0, 0), "unsplit")
    assert found.overlap == {"car": {"car": 5, "bike": 3}, "bike": {"car": 3, "bike": 3}}


def test_thousands_of_classes(tmp_path: Path) -> None:
    catalog = make_home(tmp_path, samples=8)
    names = tuple(f"place-{number}" for number in range(5000))
    with catalog.commit(author="ada", message="places") as change:
        change.add_tasks([Task(name="place", kind="categorical", classes=names, owner="ada")])
        change.add_labels(labels([label("pictures/00007", "place", "place-4321")]), source="import")
    (cell,) = [c for c in counted(catalog).cells if (c.task, c.slice, c.split) == ("place", "", "train")]
    assert (len(cell.counts), {name: n for name, n in cell.counts.items() if n}) == (5000, {"place-4321": 1})


def test_the_prior_comes_from_the_validation_split(catalog: Catalog) -> None:
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


def test_the_prior_without_validation_comes_from_the_random_arm(catalog: Catalog) -> None:
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
