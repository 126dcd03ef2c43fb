"""Pairs of tasks that are labelled together, and the rows that a plan may draw, against plain Python."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from homes import TASKS, label, labels, make_home

from curation import Catalog
from curation.overlap import overlap


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """150 samples, more than two words of bits: labels in the delta, one of them unsure, and two samples excluded."""
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
    columns = ("code", "number", "codes", "source")
    return {row["sample_id"]: tuple(row[c] for c in columns) for row in rows if row["state"] == 1}


@pytest.mark.parametrize("among", [None, np.arange(0, 140, 3), np.arange(0), np.array([149, 1000])])
def test_every_pair_is_counted(catalog: Catalog, among: np.ndarray | None) -> None:
    inside = set(range(150) if among is None else among.tolist())
    sets = [set(known(catalog, task.name)) & inside for task in TASKS]
    with catalog.read() as now:
        counts = overlap(now, among)
    assert counts.tolist() == [[len(a & b) for b in sets] for a in sets]


def test_nothing_is_labelled(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path)
    with catalog.commit(author="ada", message="tasks") as change:
        change.add_tasks(TASKS)
    with catalog.read() as now:
        assert overlap(now).tolist() == [[0] * len(TASKS)] * len(TASKS)


def test_eligible_rows_are_the_known_labels_of_training_samples_in_the_pack(catalog: Catalog, tmp_path: Path) -> None:
    with catalog.read() as now:
        keys = dict(zip(*(now.samples()[name].to_pylist() for name in ("sample_id", "key")), strict=True))
        train = set(now.training_ids().tolist())
    packed = sorted(keys.values())[:120]
    pq.write_table(pa.table({"key": packed}), tmp_path / "index.parquet")
    with catalog.read() as now:
        found = now.eligible(["color", "car", "speed"], tmp_path / "index.parquet").to_pylist()
        ids = now.task_ids()
        assert len(now.eligible([], tmp_path / "index.parquet")) == 0
    expected = {
        (ids[task], sample, packed.index(keys[sample]), *values)
        for task in ("color", "car", "speed")
        for sample, values in known(catalog, task).items()
        if sample in train and keys[sample] in packed
    }
    assert len(found) == len(expected) > 50
    assert {tuple(row.values()) for row in found} == expected
