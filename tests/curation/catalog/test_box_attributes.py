"""Attributes that a task declares of its boxes: checked when labels come in, counted, kept through changes."""

import re
from pathlib import Path

import pyarrow as pa
import pytest
from support.homes import label, labels, make_home

from curation import Catalog, Task
from curation.analysis.box_attributes import AttributeCount, attribute_counts
from curation.analysis.coverage import coverage
from curation.errors import BadInput

SIGNS = Task(
    name="signs", kind="detection", classes=("sign",), owner="ada",
    attributes={"kind": ["stop", "yield"], "height": "m"},
)  # fmt: skip
TRAIN, TEST = ["pictures/00004", "pictures/00005", "pictures/00006"], ["pictures/00000"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return declared(tmp_path_factory.mktemp("attributes"))


def declared(folder: Path) -> Catalog:
    """Pictures, and the task of signs without a label."""
    catalog = make_home(folder, samples=40)
    with catalog.commit(author="ada", message="task") as change:
        change.add_tasks([SIGNS])
    return catalog


def sign(x: float = 1.0, **attributes: str) -> dict[str, object]:
    return {"class": "sign", "x": x, "y": 2.0, "w": 5.0, "h": 8.0, "attributes": list(attributes.items()) or None}


def commit(catalog: Catalog, rows: dict[str, list[dict[str, object]]], annotator: str = "vendor") -> None:
    with catalog.commit(author="ada", message="boxes") as change:
        table = labels([label(key, "signs", boxes, annotator) for key, boxes in rows.items()])
        change.add_labels(table, source="import")


def test_a_declaration_keeps_its_order_and_says_nothing_where_there_is_none() -> None:
    assert SIGNS.model_dump(mode="json")["attributes"] == {"kind": ["stop", "yield"], "height": "m"}
    assert Task.model_validate_json(SIGNS.model_dump_json()) == SIGNS
    assert len({SIGNS, Task(**SIGNS.model_dump())}) == 1
    assert "attributes" not in Task(name="cars", kind="detection", classes=("car",), owner="ada").model_dump()


@pytest.mark.parametrize(
    ("attributes", "rule"),
    [
        ({"kind": ["stop"]}, "two or more classes that differ"),
        ({"kind": ["a", "a"]}, "two or more classes that differ"),
        ({"kind": ""}, "kind has an empty unit"),
        ({"Kind": ["a", "b"]}, "'Kind' is no name of an attribute"),
        ({"state": ["a", "b"]}, "'state' is no name of an attribute"),
        ({"kind": ["a", "\x00"]}, "is no class; write it as text"),
        ({"kind": 3}, "must be the unit of a number"),
        ("kind", "must be a table such as"),
    ],
)
def test_a_wrong_declaration_is_named(attributes: object, rule: str) -> None:
    with pytest.raises(ValueError, match=re.escape(rule)):
        Task(name="signs", kind="detection", classes=("sign",), owner="ada", attributes=attributes)


def test_only_boxes_have_attributes() -> None:
    with pytest.raises(ValueError, match="a binary task has none"):
        Task(name="car", kind="binary", owner="ada", attributes={"kind": ["a", "b"]})


@pytest.mark.parametrize("wrong", [{"kind": "stopp"}, {"height": "tall"}, {"height": "nan"}, {"kind": "2"}])
def test_a_value_that_is_not_declared_is_one_line(home: Catalog, wrong: dict[str, str]) -> None:
    (stated,) = (f"{name} = {value}" for name, value in wrong.items())
    with pytest.raises(BadInput, match=re.escape(stated)) as error:
        commit(home, {TRAIN[0]: [sign(kind="stop"), sign(9.0, **wrong)]})
    assert "\n" not in str(error.value)
    assert "task signs declares other values; correct them, or declare these" in str(error.value)
    with home.read() as now:
        assert not len(now.labels("signs"))


def test_boxes_are_counted_by_what_is_known_of_them(tmp_path: Path) -> None:
    catalog = declared(tmp_path)
    found = {
        TRAIN[0]: [sign(kind="stop"), sign(9.0, kind="stop", height="2.5", colour="any")],
        TRAIN[1]: [sign(kind="yield"), sign(9.0), sign(20.0, kind="stop", iscrowd="true")],
        TRAIN[2]: [],
        TEST[0]: [sign(height="3")],
    }
    commit(catalog, found)
    with catalog.read() as now:
        counts = attribute_counts(now)
        assert coverage(now).attributes == counts
        wanted = "len(list_filter(boxes.signs, lambda b: b.attributes['kind'] = 'yield')) > 0"
        assert len(now.members(now.check_slice(wanted))) == 1
    train = {"task": "signs", "split": "train", "boxes": 4}
    test = {"task": "signs", "split": "test", "boxes": 1}
    assert set(map(str, counts)) == {
        str(part) for part in (
            AttributeCount(attribute="kind", known=3, counts={"stop": 2, "yield": 1}, **train),
            AttributeCount(attribute="height", known=1, counts={}, **train),
            AttributeCount(attribute="kind", known=0, counts={"stop": 0, "yield": 0}, **test),
            AttributeCount(attribute="height", known=1, counts={}, **test),
        )
    }  # fmt: skip
    assert [part.row()["unknown"] for part in counts if part.attribute == "kind"] == [1, 1]


def test_excluded_samples_are_not_counted_and_old_classes_become_unknown(tmp_path: Path) -> None:
    catalog = declared(tmp_path)
    commit(catalog, {TRAIN[0]: [sign(kind="stop")], TRAIN[1]: [sign(kind="yield")]})
    with catalog.commit(author="ada", message="out") as change:
        change.add_attributes(pa.table({"key": [TRAIN[0]], "excluded": [True]}))
    with catalog.read() as now:
        (kind, height) = attribute_counts(now)
    assert (kind.boxes, kind.counts, height.known) == (1, {"stop": 0, "yield": 1}, 0)


def test_a_word_is_no_number_once_a_class_became_one(tmp_path: Path) -> None:
    catalog = declared(tmp_path)
    commit(catalog, {TRAIN[0]: [sign(kind="stop")], TRAIN[1]: [sign(kind="yield")]})
    with catalog.commit(author="ada", message="redefined") as change:
        change.redefine_task(SIGNS.model_copy(update={"attributes": (("kind", "m"), ("height", "m"))}))
    with catalog.read() as now:
        assert [part.known for part in attribute_counts(now)] == [0, 0]


@pytest.mark.parametrize("repeated", [0, 2])
def test_an_attribute_that_a_box_states_twice_is_refused(home: Catalog, repeated: int) -> None:
    boxes = [sign(kind="stop", height="2"), sign(), sign(kind="yield")]
    boxes[repeated]["attributes"] = [("kind", "stop"), ("height", "2"), ("kind", "yield")]
    with pytest.raises(BadInput, match="attribute 'kind' of a box: is stated twice; give each box one value"):
        commit(home, {TRAIN[0]: boxes})
