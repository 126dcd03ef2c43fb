"""The current-label rule case by case, and every kind of label that is refused."""

from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from support.homes import TASKS, copy_home, label, labels, make_home, sample_rows
from support.postgres import Server

from curation import BadInput, Catalog, Task

KEY = "pictures/00001"

Claims = list[tuple[str, str, object]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, lake: Server | None) -> Catalog:
    catalog = make_home(tmp_path_factory.mktemp("labels"), samples=8, lake=lake)
    with catalog.commit(author="ada", message="clear") as change:
        rows = [{**label(KEY, task, None, "vendor"), "state": "retracted"} for task in ("color", "speed", "car")]
        change.add_labels(labels(rows), source="import")
    return catalog


@pytest.fixture
def catalog(original: Catalog, tmp_path: Path, lake: Server | None) -> Catalog:
    return copy_home(original, tmp_path, lake)


def say(catalog: Catalog, task: str, claims: Claims) -> dict[str, object] | None:
    """Commit each (source, annotator, value) by itself; return the current label of the sample."""
    for source, annotator, value in claims:
        row = label(KEY, task, None if value == "retract" else value, annotator)
        if value == "retract":
            row["state"] = "retracted"
        with catalog.commit(author="ada", message="say") as change:
            change.add_labels(labels([row]), source=source)
    with catalog.read() as now:
        found = [row for row in now.labels(task).to_pylist() if row["sample_id"] == 1]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ([("human", "ada", "red")], 0),
        ([("human", "ada", "red"), ("human", "ada", "green")], 2),
        ([("import", "v", "red"), ("model", "m", "green")], 0),
        ([("human", "ada", "yellow"), ("import", "v", "red")], 1),
        ([("oracle", "o", "yellow"), ("import", "v", "red"), ("model", "m", "red")], 1),
        ([("human", "ada", "red"), ("human", "bob", "red"), ("human", "eve", "green")], 0),
        ([("human", "ada", "red"), ("human", "bob", None), ("human", "eve", "red")], 0),
        ([("import", "v", "red"), ("human", "ada", "green"), ("human", "ada", "retract")], 0),
        ([("human", "ada", None), ("human", "ada", "green")], 2),
        ([("oracle", "o", "red"), ("human", "ada", "red"), ("human", "bob", "green")], 0),
        ([("human", "ada", "red"), ("human", "bob", "green"), ("human", "bob", "retract")], 0),
        ([("model", "m", "green")], 2),
    ],
)
def test_the_best_source_and_the_majority_decide(catalog: Catalog, claims: Claims, code: int) -> None:
    current = say(catalog, "color", claims)
    assert current is not None
    assert (current["state"], current["code"]) == (1, code)


@pytest.mark.parametrize(
    "claims",
    [
        [("human", "ada", "red"), ("human", "bob", "green")],
        [("human", "ada", None)],
        [("human", "ada", None), ("human", "bob", None), ("human", "eve", "red")],
        [("human", "ada", None), ("import", "v", "red")],
        [("human", "ada", None), ("human", "bob", "red")],
        [("human", "ada", "red"), ("oracle", "o", "green")],
        [("human", "ada", "red"), ("human", "bob", "red"), ("human", "eve", "green"), ("human", "zoe", "green")],
        [("human", "ada", "red"), ("human", "bob", "red"), ("human", "eve", "green"), ("human", "zoe", "yellow")],
    ],
)
def test_ties_and_doubts_are_unsure(catalog: Catalog, claims: Claims) -> None:
    current = say(catalog, "color", claims)
    assert current is not None
    assert (current["state"], current["code"]) == (2, None)


def test_some_columns_are_those_of_all(catalog: Catalog) -> None:
    say(catalog, "color", [("human", "ada", "red"), ("human", "bob", "green"), ("import", "v", "red")])
    with catalog.read() as now:
        for read, names in (
            (now.samples, ("split", "sample_id", "group")),
            (lambda *some: now.labels("color", *some), ("state", "sample_id", "code")),
            (lambda *some: now.labels.by_annotator("color", *some), ("sample_id", "annotator", "source", "code")),
        ):
            assert read(*names).equals(read().select(names))
            assert len(read(*names)) > 0


def test_retracted_is_unknown(catalog: Catalog) -> None:
    assert say(catalog, "color", [("human", "ada", "red"), ("human", "ada", "retract")]) is None


def test_one_name_in_two_sources_is_two_annotators(catalog: Catalog) -> None:
    claims: Claims = [("import", "ada", "red"), ("human", "ada", "green"), ("human", "ada", "retract")]
    current = say(catalog, "color", claims)
    assert current is not None
    assert (current["code"], current["source"]) == (0, "import")


def test_numbers_that_differ_are_unsure(catalog: Catalog) -> None:
    current = say(catalog, "speed", [("human", "ada", 30.0), ("human", "bob", 30.0)])
    assert current is not None
    assert (current["state"], current["number"]) == (1, 30.0)
    current = say(catalog, "speed", [("human", "eve", 31.0)])
    assert current is not None
    assert (current["state"], current["number"]) == (2, None)


def test_numbers_within_the_tolerance_have_their_median(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="task") as change:
        change.add_tasks([Task(name="tilt", kind="regression", unit="deg", metric="mae", owner="ada", tolerance=2.0)])
    current = say(catalog, "tilt", [("human", "ada", 3.0), ("human", "bob", 5.0), ("human", "eve", 3.5)])
    assert current is not None
    assert (current["state"], current["number"]) == (1, 3.5)
    current = say(catalog, "tilt", [("human", "dan", 4.5)])
    assert current is not None
    assert (current["state"], current["number"]) == (1, 4.0)  # the number of none of the four
    current = say(catalog, "tilt", [("human", "zoe", 5.5)])
    assert current is not None
    assert (current["state"], current["number"]) == (2, None)


ANSWERS = ["red", "yellow", "green", None, "retract"]
SOURCES = {"ada": "human", "bob": "human", "o": "oracle", "v": "import", "m": "model"}
RANKS = {"ada": 0, "bob": 0, "o": 0, "v": 1, "m": 2}


def rule(claims: list[tuple[str, str | None]]) -> tuple[int, int | None] | None:
    """The current-label rule in plain Python: (state, code) after these (annotator, answer)."""
    counted = {who: value for who, value in dict(claims).items() if value != "retract"}
    best = min((RANKS[who] for who in counted), default=None)
    votes = Counter(value for who, value in counted.items() if RANKS[who] == best)
    if not votes:
        return None
    value, most = votes.most_common()[0]
    if value is None or 2 * most <= votes.total():
        return 2, None
    return 1, TASKS[0].classes.index(value)


def test_rule_agrees_with_plain_python(catalog: Catalog) -> None:
    generator = np.random.default_rng(0)
    tasks = [TASKS[0].model_copy(update={"name": f"color{number}"}) for number in range(40)]
    history: dict[tuple[int, str], list[tuple[str, str | None]]] = {}
    for _ in range(6):
        rows: dict[str, list[dict[str, object]]] = {source: [] for source in SOURCES.values()}
        for sample, task in product(range(8), tasks):
            who, value = str(generator.choice(list(SOURCES))), ANSWERS[generator.integers(5)]
            history.setdefault((sample, task.name), []).append((who, value))
            state = {None: "unsure", "retract": "retracted"}.get(value, "known")
            rows[SOURCES[who]].append({**label(f"pictures/{sample:05d}", task.name, value, who), "state": state})
        with catalog.commit(author="ada", message="say") as change:
            change.add_tasks(tasks)
            for source, part in rows.items():
                change.add_labels(labels(part), source=source)
    with catalog.read() as now:
        for task in tasks:
            found = {row["sample_id"]: (row["state"], row["code"]) for row in now.labels(task.name).to_pylist()}
            assert [found.get(sample) for sample in range(8)] == [
                rule(history[sample, task.name]) for sample in range(8)
            ]


def test_columns_of_another_kind_do_not_split_votes(catalog: Catalog) -> None:
    texts = {"ada": "red", "bob": "green", "eve": "yellow"}
    rows = [{**label(KEY, "color", text, who), "state": "unsure"} for who, text in texts.items()]
    rows += [{**label(KEY, "color", "red", who), "number": 1.0 * turn} for turn, who in enumerate(("yan", "zoe"))]
    with catalog.commit(author="ada", message="mixed") as change:
        change.add_labels(labels(rows[3:]), source="human")
    with catalog.read() as now:
        assert now.labels("color").filter(pc.field("sample_id") == 1).to_pylist()[0]["state"] == 1
    with catalog.commit(author="ada", message="mixed") as change:
        change.add_labels(labels(rows[:3]), source="human")
    with catalog.read() as now:
        assert now.labels("color").filter(pc.field("sample_id") == 1).to_pylist()[0]["state"] == 2


def test_an_empty_list_of_boxes_is_known(catalog: Catalog) -> None:
    current = say(catalog, "things", [("human", "ada", [])])
    assert current is not None
    assert (current["state"], current["boxes"]) == (1, [])


BOX = {"class": "light", "x": 2.0, "y": 2.0, "w": 5.0, "h": 8.0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (label("nobody", "color", "red"), "'nobody': no such sample"),
        (label(KEY, "colour", "red"), "'colour': the catalog has no such task"),
        (label(KEY, "color", "blue"), "'blue' of 'pictures/00001': task color has no such class"),
        (label(KEY, "car", "yes"), "'yes' of"),
        (label(KEY, "speed", float("nan")), "takes finite numbers"),
        (label(KEY, "speed", float("inf")), "takes finite numbers"),
        (label(KEY, "speed", "fast"), "takes finite numbers"),
        (label(KEY, "things", [{**BOX, "class": "cat"}]), "boxes of its classes, inside the image"),
        (label(KEY, "things", [{**BOX, "x": 44.0}]), "inside the image"),
        (label(KEY, "things", [{**BOX, "y": -1.0}]), "inside the image"),
        (label(KEY, "things", [{**BOX, "w": 0.0}]), "inside the image"),
        (label(KEY, "things", [{**BOX, "x": None}]), "inside the image"),
        (label(KEY, "things", [{**BOX, "h": float("nan")}]), "inside the image"),
        (label(KEY, "things", [None]), "inside the image"),
        (label(KEY, "things", "light"), "takes boxes of its classes"),
        ({**label(KEY, "car", True), "text": None}, "task car has no such class"),
        ({**label(KEY, "car", True), "annotator": None}, "annotator None: every label has one"),
        ({**label(KEY, "car", True), "annotator": ""}, "annotator '': every label has one"),
        ({**label(KEY, "color", "red"), "state": "maybe"}, "must be known, unsure, inapplicable or retracted"),
        ({**label(KEY, "color", "red"), "confidence": 0.0}, "must be above 0 and at most 1"),
        ({**label(KEY, "color", "red"), "confidence": 1.5}, "must be above 0 and at most 1"),
    ],
)
def test_a_bad_label_keeps_the_batch_out(catalog: Catalog, row: dict[str, object], message: str) -> None:
    with catalog.read() as now:
        before = now.counts()
    good = label("pictures/00002", "color", "red", "ada")
    with pytest.raises(BadInput, match=message) as caught, catalog.commit(author="ada", message="bad") as change:
        change.add_labels(labels([good, row]), source="human")
    assert "\n" not in str(caught.value)
    with catalog.read() as now:
        assert now.counts() == before


def test_a_box_may_touch_the_edges(catalog: Catalog) -> None:
    with catalog.read() as now:
        (row,) = [row for row in now.samples().to_pylist() if row["key"] == KEY]
    edges = {"class": "light", "x": 0.0, "y": 0.0, "w": float(row["width"]), "h": float(row["height"])}
    current = say(catalog, "things", [("human", "ada", [edges])])
    assert current is not None
    assert current["state"] == 1


def test_twice_in_one_batch(catalog: Catalog) -> None:
    row = label(KEY, "color", "red", "ada")
    with pytest.raises(BadInput, match="is in this batch twice"), catalog.commit(author="ada", message="2") as change:
        change.add_labels(labels([row, row]), source="human")
    with pytest.raises(BadInput, match="source 'guess'"), catalog.commit(author="ada", message="2") as change:
        change.add_labels(labels([row]), source="guess")


def test_twice_in_one_commit(catalog: Catalog) -> None:
    with catalog.commit(author="a", message="first") as change:
        change.add_labels(labels([label(KEY, "car", True, "ada")]), source="human")
        with pytest.raises(BadInput, match="was already given in this commit"):
            change.add_labels(labels([label(KEY, "car", False, "ada")]), source="human")
        change.add_attributes(pa.table({"key": [KEY], "split": ["train"]}))
        with pytest.raises(BadInput, match="was already set in this commit"):
            change.add_attributes(pa.table({"key": [KEY], "split": ["test"]}))
    with pytest.raises(BadInput, match="is in this batch twice"), catalog.commit(author="a", message="2") as change:
        change.add_attributes(pa.table({"key": [KEY, KEY], "split": ["train", "test"]}))
    with catalog.commit(author="a", message="once") as change:
        change.add_tasks([TASKS[1].model_copy(update={"name": "bus"})] * 2)
        assert list(change.now.tasks()).count("bus") == 1


def test_samples_keep_their_key_and_bytes(catalog: Catalog, original: Catalog) -> None:
    paths = sorted((original.home.parent / "images").glob("*.jpg"))
    with catalog.commit(author="ada", message="again") as change:
        assert change.add_samples(sample_rows(["pictures/00000"], paths[:1]), dataset="d") == 0
    with (
        pytest.raises(BadInput, match="another image with this key"),
        catalog.commit(author="ada", message="x") as change,
    ):
        change.add_samples(sample_rows(["pictures/00000"], paths[1:2]), dataset="d")
    with pytest.raises(BadInput, match="is in this batch twice"), catalog.commit(author="ada", message="x") as change:
        change.add_samples(sample_rows(["new", "new"], paths[:2]), dataset="d")
    with (
        pytest.raises(BadInput, match=f"{paths[1]}: its key is empty"),
        catalog.commit(author="a", message="e") as change,
    ):
        change.add_samples(sample_rows(["new", ""], paths[:2]), dataset="d")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"split": ["tset"]}, "'tset' of 'pictures/00001': must be train, validation or test"),
        ({"night": ["dark"]}, "is a flag so far, here a text"),
        ({"group": [3.0]}, "is a text so far"),
        ({"odd": [[1]]}, "must be a string, boolean, number or time"),
        ({"Night": [True]}, "must be of a-z, 0-9 and _"),
        ({'x"y': ["a"]}, "must be of a-z, 0-9 and _"),
        ({"": ["a"]}, "must be of a-z, 0-9 and _"),
    ],
)
def test_bad_attributes(catalog: Catalog, column: dict[str, list[object]], message: str) -> None:
    with pytest.raises(BadInput, match=message), catalog.commit(author="ada", message="x") as change:
        change.add_attributes(pa.table({"key": [KEY], **column}))
