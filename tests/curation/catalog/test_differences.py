"""Differences between two commits, compared with a plain count."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.homes import label, labels, make_home
from support.postgres import Server

from curation import BadInput, Catalog, NotFound
from curation.catalog.differences import Difference, differences

COLORS = ("red", "yellow", "green")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, lake: Server | None) -> Catalog:
    """Three commits: an import; people who add, change, doubt and retract labels; an attribute."""
    catalog = make_home(tmp_path_factory.mktemp("differences"), samples=80, lake=lake)
    generator = np.random.default_rng(0)
    with catalog.commit(author="ada", message="people") as change:
        keys = change.now.samples()["key"].to_pylist()
        answers = [(key, generator.choice([*COLORS, None])) for key in keys if generator.random() < 0.6]
        change.add_labels(
            labels([label(key, "color", value and str(value), "ada") for key, value in answers]), source="human"
        )
    with catalog.commit(author="ada", message="taken back") as change:
        gone = [{**label(key, "color", None, "ada"), "state": "retracted"} for key, _ in answers[:10]]
        change.add_labels(labels(gone), source="human")
        change.add_attributes(pa.table({"key": keys[:3], "night": [True, False, True]}))
    return catalog


def known(catalog: Catalog, commit: int) -> dict[int, object]:
    with catalog.read(commit) as then:
        return {
            row["sample_id"]: row["code"] if row["state"] == 1 else "unsure" for row in then.labels("color").to_pylist()
        }


def found(catalog: Catalog, first: int, last: int | None = None) -> dict[tuple[str, str], Difference]:
    with catalog.read(last) as after:
        return {(row.task, row.slice): row for row in differences(after.earlier(first), after)}


@pytest.mark.parametrize(("first", "last"), [(0, 1), (1, 2), (2, 3), (1, 3), (0, 3)])
def test_rows_agree_with_a_plain_count(catalog: Catalog, first: int, last: int) -> None:
    was, is_ = known(catalog, first) if first else {}, known(catalog, last)
    ids = was.keys() | is_.keys()
    pairs = [(was.get(id_, "unknown"), is_.get(id_, "unknown")) for id_ in ids]
    doubt = ("unknown", "unsure")
    row = found(catalog, first, last)["color", ""]
    assert row.learned == sum(a in doubt and b not in doubt for a, b in pairs)
    assert row.changed == sum(a not in doubt and b not in doubt and a != b for a, b in pairs)
    assert row.doubted == sum(a != "unsure" and b == "unsure" for a, b in pairs)
    assert row.lost == sum(a != "unknown" and b == "unknown" for a, b in pairs)
    assert (row.before, row.after) == tuple(
        sum(side not in doubt for side in sides) for sides in zip(*pairs, strict=True)
    )


def test_tasks_without_a_change_are_left_out(catalog: Catalog) -> None:
    assert found(catalog, 2, 2) == {}
    assert {task for task, _ in found(catalog, 1, 2)} == {"color"}


def test_a_label_that_left_a_slice_counts_there(catalog: Catalog) -> None:
    was, is_ = known(catalog, 1), known(catalog, 2)
    left = sum(value == 1 and is_[id_] not in (1, "unsure") for id_, value in was.items())
    assert left
    assert found(catalog, 1, 2)["color", "yellow"].changed >= left


@pytest.mark.parametrize(("first", "error"), [(4, NotFound), (-1, NotFound)])
def test_missing_commits_are_named(catalog: Catalog, first: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"commit {first}"):
        found(catalog, first)


def test_the_earlier_commit_comes_first(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="swap them"), catalog.read(1) as then, catalog.read(2) as later:
        differences(later, then)
