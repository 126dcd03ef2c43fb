"""Every count, request and plan takes the samples that may be trained on from `training_ids`."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from support.homes import copy_home, label, labels, make_home, sample_rows

from curation import Catalog
from curation.analysis.colabelling import holes
from curation.analysis.coverage import coverage
from curation.analysis.missingness import label_missingness
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.ingestion.leaks import near_duplicate_sets
from curation.requests.candidates import Candidates
from samplers.plan.labels import known_labels
from samplers.policy.policy import TaskPolicy

RULE = TaskPolicy(owner="bob", share=1.0, importance=1.0)
COUNTS: dict[str, Callable[[Snapshot, Path], int]] = {
    "co-labelling": lambda now, home: coverage(now).overlap["car"]["bike"],
    "cells": lambda now, home: next(c.known for c in coverage(now).cells if (c.task, c.split) == ("car", "train")),
    "requests": lambda now, home: len(Candidates(now, home).known("car")),
    "plans": lambda now, home: len(known_labels(now, now.task("car"), RULE).samples),
    "near-duplicates": lambda now, home: near_duplicate_sets(now, ["same"] * 40, keys_of(now))[0].splits["train"],
    "leaks": lambda now, home: sum(now.groups_across()["train"].to_pylist()),
}  # fmt: skip


def keys_of(now: Snapshot) -> list[str]:
    return [str(key) for key in now.samples()["key"].to_pylist()]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Every training sample has labels of car and bike, and shares its group with an evaluation sample."""
    catalog = make_home(tmp_path_factory.mktemp("training"), samples=40)
    with catalog.commit(author="ada", message="labels") as change:
        keys = keys_of(change.now)
        change.add_labels(labels([label(k, t, True, "ada") for k in keys for t in ("car", "bike")]), source="human")
        change.add_attributes(pa.table({"key": keys, "group": ["one"] * len(keys)}))
    return catalog


@pytest.mark.parametrize("what", COUNTS)
def test_no_count_has_excluded_samples(what: str, original: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(original, tmp_path)
    with catalog.commit(author="ada", message="out") as change:
        samples = change.now.samples()
        train = samples.filter(pc.equal(samples["split"], "train"))["key"].to_pylist()
        assert COUNTS[what](change.now, catalog.home) == len(train) > 10
        change.add_attributes(pa.table({"key": train[:7], "excluded": [True] * 7}))
    with catalog.read() as now:
        assert COUNTS[what](now, catalog.home) == len(train) - 7 == len(now.training_ids())


def test_a_hole_expects_nothing_of_excluded_samples(original: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(original, tmp_path)
    with catalog.commit(author="ada", message="rain or snow") as change:
        change.add_tasks([Task(name=name, kind="binary", owner="ada") for name in ("rain", "snow")])
        train = change.now.training_ids()
        samples = change.now.samples()
        keys = samples["key"].filter(pc.is_in(samples["sample_id"], value_set=pa.array(train))).to_pylist()
        rows = [label(key, ("rain", "snow")[place % 2], True) for place, key in enumerate(keys)]
        change.add_labels(labels(rows), source="import")
        change.add_attributes(pa.table({"key": keys[:4], "excluded": [True] * 4}))
    with catalog.read() as now:
        (hole,) = [hole for hole in holes(now, 99) if {hole.one, hole.other} == {"rain", "snow"}]
    assert hole.expected == pytest.approx((len(keys) / 2 - 2) ** 2 / (len(keys) - 4), abs=0.5)


def test_before_the_first_split_all_that_are_not_excluded_count(original: Catalog, tmp_path: Path) -> None:
    with original.read() as now:
        paths = [Path(place) for place in now.samples()["location"].to_pylist()[:12]]
    fresh = Catalog.create(tmp_path)
    with fresh.commit(author="ada", message="unsplit") as change:
        change.add_samples(sample_rows([f"{n:02d}" for n in range(12)], paths), dataset="pictures")
        change.add_attributes(pa.table({"key": ["00", "01"], "excluded": [True, False]}))
    with fresh.commit(author="ada", message="one test sample") as change:
        assert len(change.now.training_ids()) == 0
        assert change.now.training_ids(before_split=True).tolist() == list(range(1, 12))
        change.add_attributes(pa.table({"key": ["02"], "split": ["test"]}))
    with fresh.commit(author="ada", message="one training sample") as change:
        assert change.now.training_ids(before_split=True).tolist() == [1, *range(3, 12)]
        change.add_attributes(pa.table({"key": ["03"], "split": ["train"]}))
    with fresh.read() as now:
        assert now.training_ids(before_split=True).tolist() == now.training_ids().tolist() == [3]
        assert now.earlier(1).training_ids(before_split=True).tolist() == list(range(1, 12))


def test_only_training_samples_say_where_labels_are_missing(original: Catalog, tmp_path: Path) -> None:
    """The odd samples have no split and no label: beside a train split they are not compared."""
    with original.read() as now:
        paths = [Path(place) for place in now.samples()["location"].to_pylist()]
    fresh, keys = Catalog.create(tmp_path), [f"{n}" for n in range(40)]
    with fresh.commit(author="ada", message="half split") as change:
        change.add_tasks([Task(name="rain", kind="binary", owner="ada")])
        change.add_samples(sample_rows(keys, paths), dataset="pictures")
        change.add_attributes(pa.table({"key": keys, "odd": [n % 2 == 1 for n in range(40)]}))
        change.add_attributes(pa.table({"key": keys[::2], "split": ["train"] * 20}))
        change.add_labels(labels([label(key, "rain", True) for key in keys[::4]]), source="import")
    with fresh.read() as now:
        assert [part for part in label_missingness(now) if part.attribute == "odd"] == []
