"""Labels of several classes that say which were looked for: the others stay unknown, whoever labels and merges."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.homes import labels, sample_rows
from support.marked import CLASSES, SEEN, listed
from support.pictures import picture

from curation import BadInput, Catalog, Task
from curation.analysis.coverage import coverage
from curation.catalog.differences import differences
from curation.catalog.event_writer import ADDITIONS
from curation.catalog.held_back_labels import DIGEST, FILE, hold_back, read_held_back
from curation.catalog.presence import presence_of_labels
from curation.files.digest import digest
from curation.ingestion.writers import long_table, wide_table

ROAD = ("car", "person"), ("car", "person", "bicycle")
"""The road picture: a car and a person, no bicycle, and nobody looked for a bus."""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made, paths = Catalog.create(tmp_path / "home"), [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        picture(number).save(path)
    with made.commit(author="eve", message="roads") as change:
        change.add_tasks([SEEN, Task(name="wet", kind="binary", owner="bob")])
        change.add_samples(sample_rows(["0", "1", "2", "3"], paths), dataset="roads")
    return made


def give(catalog: Catalog, names: Any, looked: Any = None, by: str = "ann", source: str = "human") -> None:
    with catalog.commit(author="eve", message="label") as change:
        row = listed("0", list(names), None if looked is None else list(looked)) | {"annotator": by}
        change.add_labels(labels([row]), source=source)


def state(catalog: Catalog) -> str | list[int]:
    """The states of the classes of the first sample, or that it is unsure."""
    with catalog.read() as now:
        rows = now.labels("seen")
        if not len(rows):
            return "unknown"
        task = now.task("seen")
        if rows["state"][0].as_py() != 1:
            return "unsure"
        return [int(code) for code in presence_of_labels(rows, len(task.classes))[0]]


@pytest.fixture(params=["events", "folded"])
def settle(request: pytest.FixtureRequest) -> Any:
    """Read from events, or from intervals."""
    return (lambda catalog: None) if request.param == "events" else (lambda catalog: catalog.compact())


def test_what_nobody_looked_for_is_unknown(catalog: Catalog, settle: Any) -> None:
    give(catalog, *ROAD)
    settle(catalog)
    assert state(catalog) == [1, 1, 0, -1]
    give(catalog, ["car"])
    settle(catalog)
    assert state(catalog) == [1, 0, 0, 0]


def test_people_decide_about_a_class_among_those_who_looked_for_it(catalog: Catalog, settle: Any) -> None:
    give(catalog, ["car"], ["car", "person"], "ann")
    give(catalog, ["car", "bus"], ["car", "bus"], "bea")
    settle(catalog)
    assert state(catalog) == [1, 0, -1, 1]
    give(catalog, ["person"], ["person"], "cid")
    settle(catalog)
    assert state(catalog) == "unsure"
    give(catalog, [], None, "dan")
    settle(catalog)
    assert state(catalog) == "unsure"  # of the two who looked for a bus one saw it
    give(catalog, [], None, "eli")
    settle(catalog)
    assert state(catalog) == "unsure"  # two of four saw a car
    give(catalog, ["car"], ["car"], "fay")
    settle(catalog)
    assert state(catalog) == [1, 0, 0, 0]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from([-1, 0, 1]), min_size=4, max_size=4), min_size=1, max_size=4))
def test_any_people_agree_as_a_count_would(statements: list[list[int]]) -> None:
    """Against a reference in Python: each class by the majority of those who looked, unsure at any tie."""
    given_ = [row for row in statements if any(state >= 0 for state in row)]
    with tempfile.TemporaryDirectory() as folder:
        made, path = Catalog.create(Path(folder) / "home"), Path(folder) / "0.png"
        picture(0).save(path)
        with made.commit(author="eve", message="roads") as change:
            change.add_tasks([SEEN])
            change.add_samples(sample_rows(["0"], [path]), dataset="roads")
            rows = [
                listed(
                    "0", [CLASSES[c] for c in range(4) if row[c] == 1], [CLASSES[c] for c in range(4) if row[c] >= 0]
                )
                | {"annotator": f"person {number}"}
                for number, row in enumerate(given_)
            ]
            if rows:
                change.add_labels(labels(rows), source="human")
        table = np.array(given_ or np.zeros((0, 4), int))
        there, asked = (table == 1).sum(axis=0), (table >= 0).sum(axis=0)
        wanted: Any = np.where(asked == 0, -1, (2 * there > asked).astype(int)).tolist()
        if len(given_) > 1 and ((2 * there == asked) & (there > 0)).any():
            wanted = "unsure"
        assert state(made) == (wanted if given_ else "unknown")


def test_a_merged_class_was_looked_for_where_both_were_or_one_is_there(catalog: Catalog, settle: Any) -> None:
    def merged(names: list[str], looked: list[str]) -> str | list[int]:
        give(catalog, names, looked)
        with catalog.commit(author="eve", message="merge", batch=f"merge {names} {looked}") as change:
            change.redefine_task(SEEN.model_copy(update={"classes": ("car", "person", "wheels")}),
                                 {"bicycle": "wheels", "bus": "wheels"})  # fmt: skip
        settle(catalog)
        return state(catalog)

    assert merged(["car"], ["car", "bicycle"]) == [1, -1, -1]
    with catalog.read() as now:
        assert now.task("seen").classes == ("car", "person", "wheels")


def test_a_class_that_is_there_among_merged_ones_is_known(catalog: Catalog, settle: Any) -> None:
    give(catalog, ["bicycle"], ["bicycle"])
    with catalog.commit(author="eve", message="merge") as change:
        change.redefine_task(SEEN.model_copy(update={"classes": ("car", "person", "wheels")}),
                             {"bicycle": "wheels", "bus": "wheels"})  # fmt: skip
    settle(catalog)
    assert state(catalog) == [-1, -1, 1]


def test_digests_of_full_labels_do_not_know_the_column(catalog: Catalog) -> None:
    """A history without partial labels has the digest that it had before labels could be partial."""
    give(catalog, ["car"])
    with catalog.read() as now:
        digest = now.digest
    assert ADDITIONS == {"label_event": ("looked", "instructions")}
    with catalog.commit(author="eve", message="again", batch="again") as change:
        change.revert(change.id - 1)
    assert state(catalog) == "unknown"
    with catalog.read() as now:
        assert now.digest != digest


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (listed("0", ["car"], ["tree"]), "looked ['tree'] of '0': task seen takes a list of some of its classes"),
        (listed("0", [], []), "looked [] of '0': task seen takes a list of some of its classes"),
        (
            {"key": "0", "task": "wet", "state": "known", "text": "true", "looked": ["true"], "annotator": "ann"},
            "only a label of several classes says which were looked for; leave it out",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(catalog: Catalog, row: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput) as caught, catalog.commit(author="eve", message="bad") as change:
        change.add_labels(labels([row]), source="human")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert state(catalog) == "unknown"


def test_exports_say_what_was_looked_for(catalog: Catalog) -> None:
    give(catalog, *ROAD)
    with catalog.read() as now:
        wide, long = wide_table(now).to_pylist(), long_table(now).to_pylist()
    assert (wide[0]["seen"], wide[0]["looked.seen"]) == (["car", "person"], ["car", "person", "bicycle"])
    assert (wide[1]["seen"], wide[1]["looked.seen"]) == (None, None)
    assert (long[0]["names"], long[0]["looked"]) == (["car", "person"], ["car", "person", "bicycle"])


def test_slices_know_what_was_looked_for(catalog: Catalog) -> None:
    give(catalog, *ROAD)
    with catalog.read() as now:
        without = "list_contains(looked.seen, '{0}') AND NOT list_contains(label.seen, '{0}')"
        assert [now.members(without.format(name)).tolist() for name in ("bicycle", "bus", "car")] == [[0], [], []]
        with pytest.raises(BadInput, match="seen has no class 'tram'"):
            now.check_slice(without.format("tram"))
    give(catalog, ["car"])
    with catalog.read() as now:
        assert now.members(without.format("bus")).tolist() == [0]


def test_differences_see_what_was_looked_for(catalog: Catalog) -> None:
    give(catalog, ["car"], ["car"])
    with catalog.read() as now:
        first = now.commit
    give(catalog, ["car"], ["car", "bus"])
    with catalog.read(first) as before, catalog.read() as after:
        assert [(row.task, row.changed) for row in differences(before, after)] == [("seen", 1)]


def test_held_back_labels_of_before_are_read(tmp_path: Path) -> None:
    """A file without the column has the digest that it was written with, and means all classes."""
    table = labels([listed("0", ["car"]), listed("1", [])])
    hold_back(tmp_path, table)
    path = tmp_path / FILE
    stored = pq.read_table(path)
    older = stored.drop_columns(["looked"])
    assert stored.schema.metadata[DIGEST].decode() == digest(older.replace_schema_metadata(None))
    pq.write_table(older, path)
    assert read_held_back(tmp_path).equals(table)
    hold_back(tmp_path, labels([listed("1", ["bus"], ["bus"])]))
    assert read_held_back(tmp_path)["looked"].to_pylist() == [None, ["bus"]]


def test_coverage_counts_as_none_only_where_everything_was_looked_for(catalog: Catalog) -> None:
    give(catalog, [], ["car"])
    with catalog.read() as now:
        (cell,) = (cell for cell in coverage(now).cells if (cell.task, cell.slice, cell.known) == ("seen", "", 1))
        assert cell.none == 0
    give(catalog, [])
    with catalog.read() as now:
        (cell,) = (cell for cell in coverage(now).cells if (cell.task, cell.slice, cell.known) == ("seen", "", 1))
        assert cell.none == 1
