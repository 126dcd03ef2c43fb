"""Pairs of tasks that are labelled together, and the rows that a plan may draw, against plain Python."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.homes import TASKS, label, labels, make_home

from curation import Catalog
from curation.analysis.colabelling import Hole, colabelled, holes
from curation.catalog.tasks import Task


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """150 samples (more than two words of bits): labels in the delta, one of them unsure, and two excluded samples."""
    catalog = make_home(tmp_path_factory.mktemp("overlap"), samples=150)
    catalog.compact()
    with catalog.commit(author="ada", message="more") as change:
        rows = [label(f"pictures/{i:05d}", "car", i % 3 == 0, "ada") for i in range(0, 150, 7)]
        change.add_labels(labels([*rows, label("pictures/00001", "car", None, "ada")]), source="human")
        change.add_attributes(pa.table({"key": ["pictures/00007", "pictures/00011"], "excluded": [True, True]}))
    return catalog


def known(catalog: Catalog, task: str) -> dict[int, tuple[object, ...]]:
    with catalog.read() as now:
        rows = now.labels(task).to_pylist()
    columns = ("code", "number", "codes", "looked", "source")
    return {row["sample_id"]: tuple(row[c] for c in columns) for row in rows if row["state"] == 1}


@pytest.mark.parametrize("among", [None, np.arange(0, 140, 3), np.arange(0), np.array([149, 1000])])
def test_every_pair_is_counted(catalog: Catalog, among: np.ndarray | None) -> None:
    inside = set(range(150) if among is None else among.tolist())
    sets = [set(known(catalog, task.name)) & inside for task in TASKS]
    with catalog.read() as now:
        counts = colabelled(now, among)
    assert counts.tolist() == [[len(a & b) for b in sets] for a in sets]


def test_nothing_is_labelled(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path)
    with catalog.commit(author="ada", message="tasks") as change:
        change.add_tasks(TASKS)
    with catalog.read() as now:
        assert colabelled(now).tolist() == [[0] * len(TASKS)] * len(TASKS)


def test_holes_are_pairs_that_chance_would_label_together(tmp_path: Path) -> None:
    """Of 40 samples of train: red and green never meet, as 10 x 20 / 40 would; blue meets both; grey is too rare."""
    catalog = make_home(tmp_path, samples=44)
    names = {"red": range(10), "green": range(10, 30), "blue": range(5, 25), "grey": range(30, 33)}
    with catalog.commit(author="ada", message="more") as change:
        change.add_tasks([Task(name=name, kind="binary", owner="ada") for name in names])
        train = change.now.samples().filter(pc.equal(change.now.samples()["split"], "train"))["key"].to_pylist()
        test = change.now.samples().filter(pc.equal(change.now.samples()["split"], "test"))["key"].to_pylist()
        rows = [label(train[place], name, True) for name, places in names.items() for place in places]
        rows += [label(key, name, True) for key in test for name in ("red", "green")]
        change.add_labels(labels(rows), source="import")
    with catalog.read() as now:
        lacking = 10 * 20 / len(train)
        found = [hole for hole in holes(now, 99) if {hole.one, hole.other} <= set(names)]
        assert found == [Hole(one="red", other="green", both=0, expected=lacking, split="train")]
        assert holes(now, 0) == []


def test_eligible_rows_are_the_known_labels_of_training_samples_in_the_pack(catalog: Catalog, tmp_path: Path) -> None:
    with catalog.read() as now:
        keys = dict(zip(*(now.samples()[name].to_pylist() for name in ("sample_id", "key")), strict=True))
        train = set(now.training_ids().tolist())
    packed = sorted(keys.values())[:120]
    pq.write_table(pa.table({"key": packed}), tmp_path / "index.parquet")
    with catalog.read() as now:
        found = now.labels.eligible(["color", "car", "speed"], tmp_path / "index.parquet").to_pylist()
        ids = now.task_ids()
        assert len(now.labels.eligible([], tmp_path / "index.parquet")) == 0
    expected = {
        (ids[task], sample, packed.index(keys[sample]), *values)
        for task in ("color", "car", "speed")
        for sample, values in known(catalog, task).items()
        if sample in train and keys[sample] in packed
    }
    assert len(found) == len(expected) > 50
    assert {tuple(row.values()) for row in found} == expected
