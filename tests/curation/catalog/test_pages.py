"""Pages of samples and labels hold what the whole tables hold, at every commit, folded or not."""

from pathlib import Path

import pyarrow as pa
import pytest
from support.homes import label, labels, make_home

from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Labels that are folded, corrected, retracted and renamed, and attributes that change."""
    catalog = make_home(tmp_path_factory.mktemp("pages"), samples=60)
    with catalog.read() as now:
        keys = now.samples()["key"].to_pylist()
    catalog.compact()
    with catalog.commit(author="bob", message="corrections") as change:
        change.add_labels(
            labels([label(key, "color", "green", annotator="bob") for key in keys[10:30]]), source="human"
        )
    with catalog.commit(author="bob", message="retractions") as change:
        rows = [{**label(key, "color", None, annotator="bob"), "state": "retracted"} for key in keys[15:25]]
        change.add_labels(labels(rows), source="human")
        change.add_attributes(pa.table({"key": keys[:20], "night": [True] * 20}))
    with catalog.commit(author="ada", message="no yellow any more") as change:
        color = change.now.task("color")
        left = tuple(name for name in color.classes if name != "yellow")
        change.remove_slice("yellow")
        change.remove_slice("yellow_at_night")
        change.redefine_task(color.model_copy(update={"classes": left}), {"yellow": None})
    return catalog


def paged(now: Snapshot, what: str, limit: int) -> list[dict[str, object]]:
    rows, after = [], ()
    while after is not None:
        if what == "labels":
            page = now.labels.page("color", after, limit=limit)
        else:
            page = now.sample_page(after, limit=limit, predicate="attr.night" if what == "slice" else "")
        rows += page.rows.to_pylist()
        after = page.next
    return rows


def whole(now: Snapshot, what: str) -> list[dict[str, object]]:
    rows = now.labels("color").to_pylist() if what == "labels" else now.samples().sort_by("sample_id").to_pylist()
    members = set(now.members("attr.night").tolist())
    return [row for row in rows if what != "slice" or row["sample_id"] in members]


@pytest.mark.parametrize("limit", [9, 100])
@pytest.mark.parametrize("what", ["samples", "slice", "labels"])
def test_pages_are_the_whole_at_every_commit(catalog: Catalog, what: str, limit: int) -> None:
    for commit in (1, 3, 4):
        with catalog.read(commit) as now:
            right = whole(now, what)
            found = paged(now, what, limit)
        assert len(right) > 7
        assert [{name: row[name] for name in found[0] if name in row} for row in right] == [
            {name: part for name, part in row.items() if name in right[0]} for row in found
        ]


def test_a_page_of_an_empty_catalog_is_empty(tmp_path: Path) -> None:
    with Catalog.create(tmp_path).read() as now:
        assert [len(now.sample_page().rows), now.sample_page().next] == [0, None]
        assert len(now.requests.page("open").rows) == len(now.runs.page().rows) == 0
