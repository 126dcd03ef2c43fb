"""Overlap of slices, and slices at earlier commits."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.homes import TASKS, copy_home, label, labels, make_home

from curation import Catalog, NotFound
from curation.analysis.overlap import overlaps


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("overlap"), samples=60)


@pytest.fixture
def catalog(original: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(original, tmp_path)


def members(catalog: Catalog, name: str, commit: int | None = None) -> list[int]:
    with catalog.read(commit) as then:
        return then.members(then.slices()[name].predicate).tolist()


def test_overlaps_equal_those_of_sets(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="none") as change:
        change.add_slice("none", "false")
    with catalog.read() as now:
        found = overlaps(now)
    assert len(found) == 6
    for row in found:
        one, other = set(members(catalog, row.slice)), set(members(catalog, row.other))
        assert (row.samples, row.others, row.both) == (len(one), len(other), len(one & other))
        assert row.jaccard == pytest.approx(len(one & other) / max(1, len(one | other)))
    assert [row.jaccard for row in found] == sorted((row.jaccard for row in found), reverse=True)


def test_an_old_report_reproduces(catalog: Catalog) -> None:
    """Later changes of the slice, its labels and attributes do not change its members at an earlier commit."""
    with catalog.read() as now:
        commit = now.commit
    before = {name: members(catalog, name) for name in ("yellow", "yellow_at_night", "night")}
    keys = [f"pictures/{number:05d}" for number in range(60)]
    with catalog.commit(author="ada", message="all other") as change:
        change.add_labels(labels([label(key, "color", "yellow", "ada") for key in keys]), source="human")
        change.add_attributes(pa.table({"key": keys, "night": [True] * 60}))
        change.add_slice("night", "NOT attr.night")
    with catalog.commit(author="ada", message="rename") as change:
        change.redefine_task(TASKS[0].model_copy(update={"classes": ("red", "amber", "green")}), {"yellow": "amber"})
        change.remove_slice("yellow_at_night")
    for compacted in (False, True):
        if compacted:
            catalog.compact()
        assert {name: members(catalog, name, commit) for name in before} == before
        assert (members(catalog, "yellow"), members(catalog, "night")) == (list(range(60)), [])


def test_a_slice_that_was_removed_may_come_back(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="away", batch="away") as change:
        change.remove_slice("night")
    with catalog.commit(author="ada", message="away", batch="away") as change:
        change.remove_slice("night")
    with catalog.commit(author="ada", message="once more") as change:
        change.remove_slice("night")
    with catalog.read() as now:
        assert "night" not in now.slices()
    with pytest.raises(NotFound, match="no such slice"), catalog.commit(author="ada", message="again") as change:
        change.remove_slice("nigth")
    with catalog.commit(author="ada", message="back") as change:
        change.add_slice("night", "attr.night")
    assert np.array_equal(members(catalog, "night"), members(catalog, "night", 1))
