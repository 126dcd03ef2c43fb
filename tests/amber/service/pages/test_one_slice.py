"""The page of a slice: the filters show exactly the images that they say, and forms do what the ledger then holds."""

import html
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.every_kind import EVIL, EVIL_KEY, KEYS, RUN, TASKS, every_kind
from support.homes import copy_home
from support.visitors import Visitor, elements, visiting

from amber.service.client import Client
from amber.service.facts.picture_words import is_wrong
from curation.catalog.catalog import Catalog
from curation.errors import BadInput

STATES = ["", "known", "unknown", "unsure"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return every_kind(tmp_path_factory.mktemp("slices"))


@pytest.fixture(scope="module")
def ann(made: Catalog) -> Iterator[Visitor]:
    with visiting(made.home, "owner", "ann") as visitor:
        yield visitor


@pytest.fixture
def own(made: Catalog, tmp_path: Path) -> Iterator[tuple[Catalog, Visitor]]:
    """A copy to change, and somebody who may."""
    catalog = copy_home(made, tmp_path)
    with visiting(catalog.home, "label", "eve") as visitor:
        yield catalog, visitor


def keys_on(page: str) -> list[str]:
    return [str(each["value"]) for tag, each in elements(page) if tag == "input" and each.get("name") == "keys"]


def all_keys(ann: Visitor, path: str, **asked: Any) -> list[str]:
    """The keys of all pages of a slice."""
    found, page = [], ann.client.get(path, params=asked or None).text
    while True:
        found += keys_on(page)
        following = [each["href"] for tag, each in elements(page) if tag == "a" and each.get("rel") == "next"]
        if not following:
            return found
        page = ann.get(str(following[0])).text


def truths(catalog: Catalog) -> dict[str, dict[str, Any]]:
    """Of each image: its attributes, and label and prediction of each task, found without any predicate."""
    with catalog.read() as now:
        rows = {row["sample_id"]: row for row in now.samples().to_pylist()}
        file = str(now.runs.predictions_file(catalog.home, RUN))
        dark = now.attribute("dark")
        found = {row["key"]: {"split": row["split"], "labels": {}, "said": {}, "dark": False} for row in rows.values()}
        for id_, value in zip(dark["sample_id"].to_pylist(), dark["value"].to_pylist(), strict=True):
            found[rows[id_]["key"]]["dark"] = value
        for name in TASKS:
            for row in now.labels(name).to_pylist():
                found[rows[row["sample_id"]]["key"]]["labels"][name] = row
            for row in now.runs.predictions(name, file).to_pylist():
                found[rows[row["sample_id"]]["key"]]["said"][name] = {"codes": None, **row}
    return found


def passes(each: dict[str, Any], task: str, *, split: str, state: str, predicted: str, wrong: bool) -> bool:
    label, said, kind = each["labels"].get(task), each["said"][task], TASKS[task].kind
    names = {None: "unknown", 1: "known", 2: "unsure"}
    if not each["dark"] or (split and each["split"] != split):
        return False
    if state and names[label and label["state"]] != state:
        return False
    if wrong and not is_wrong(TASKS[task], label, said):
        return False
    code = TASKS[task].classes.index(predicted) if predicted else None
    return code is None or (code in said["codes"] if kind == "multilabel" else code == said["code"])


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.kind != "detection"])
def test_filters_show_exactly_what_they_say(made: Catalog, ann: Visitor, task: str) -> None:
    found, classes = truths(made), ["", *(TASKS[task].classes if TASKS[task].kind != "regression" else ())]
    some = 0
    every = list(itertools.product(["", "test"], STATES, classes[::2], [False, True]))
    for split, state, predicted, wrong in random.Random(task).sample(every, 9):
        asked = {"split": split, "state": state, "predicted": predicted, "wrong": wrong}
        right = [key for key in KEYS if passes(found[key], task, **asked)]
        assert all_keys(ann, "/slices/dark", task=task, limit=17, **asked) == right, asked
        some += bool(right)
    assert some > 2


def test_the_page_and_the_route_of_the_api_show_the_same(made: Catalog, ann: Visitor) -> None:
    client = Client("", ann.secret, http=ann.client)
    first = client.pictures("dark", task="light", wrong=True, limit=5)
    rest = client.pictures("dark", task="light", wrong=True, limit=100, after=first.next)
    assert [row.key for row in [*first, *rest]] == all_keys(ann, "/slices/dark", task="light", wrong=True)
    assert all(row.wrong and row.truth and row.predicted != row.truth for row in [*first, *rest])
    assert {row.name for row in client.slice_summaries()} == {"dark", "red", "sure"}
    facts = client.slice("red")
    assert (facts.rare, facts.task, [row.value for row in facts.figures]) == (True, "light", [0.6])
    assert [row.samples for row in client.slice_sizes("dark")][-1] == facts_of(made, "dark")
    assert client.slice_elsewhere("red").command.startswith(f"amber browse red --run {RUN}")


def facts_of(catalog: Catalog, name: str) -> int:
    with catalog.read() as now:
        return len(now.members(now.slice(name).predicate))


def test_boxes_are_drawn_apart_over_the_pictures(made: Catalog, ann: Visitor) -> None:
    page = ann.client.get("/slices/dark", params={"task": "things"}).text
    shapes = [each for tag, each in elements(page) if tag == "rect" and each.get("width") == "20.0"]
    found = truths(made)
    shown = keys_on(page)
    assert len([each for each in shapes if each["class"] == "truth"]) == sum(
        len((found[key]["labels"].get("things") or {}).get("boxes") or ()) for key in shown
    )
    said = sum(len(found[key]["said"]["things"]["boxes"]) for key in shown)
    assert len([each for each in shapes if each["class"] == "said"]) == said > 0


@pytest.mark.parametrize(
    "path", ["/slices/dark?task=light", "/slices/sure?task=signs", f"/image/{EVIL_KEY}", "/slices"]
)
def test_no_name_becomes_an_element(ann: Visitor, path: str) -> None:
    quoted = path.replace(EVIL_KEY, "zz/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E'%22%26%3F%23%25.png")
    answer = ann.get(quoted)
    assert answer.status_code == 200
    for tag, each in elements(answer.text):
        assert not [name for name in each if name.startswith("on") or "'" in name or '"' in name], (tag, each)
        assert each.get("src") != "x", tag
        assert tag != "script" or each["src"].startswith("/static/"), each  # type: ignore[union-attr]
    if path.startswith("/image"):
        assert html.escape(EVIL, quote=False) in answer.text.replace("&#39;", "'").replace("&#34;", '"')


def test_chosen_pictures_are_asked_for_once_tagged_and_marked(own: tuple[Catalog, Visitor]) -> None:
    catalog, eve = own
    page = eve.get("/slices/dark?task=light")
    keys = keys_on(page.text)[:3]
    fields = {"keys": keys, "act": "request", "tasks": ["light", "wet"], "reason": EVIL, "once": "same"}
    first = eve.send("/slices/dark?task=light", "/slices/dark?task=light", **fields)
    assert first.status_code == 303
    assert "Asked for 6 labels" in eve.get(first.headers["location"]).text
    eve.send("/slices/dark?task=light", "/slices/dark?task=light", **fields)  # a double click
    with catalog.read() as now:
        requests = now.requests("open").to_pylist()
        assert sorted((row["key"], row["task"]) for row in requests) == sorted(
            itertools.product(keys, ["light", "wet"])
        )
        assert {(row["arm"], row["reason"]) for row in requests} == {("picked", EVIL)}
        assert now.log()["author"][0].as_py() == "eve"
    assert eve.send("/slices/dark", "/slices/dark", keys=keys[:1], act="tag", tag="blurred").status_code == 303
    assert eve.send("/slices/dark", "/slices/dark", keys=keys[:1], act="unsure", task="wet").status_code == 303
    with catalog.read() as now:
        assert now.members("attr.tag_blurred").tolist() == [now.sample(keys[0])["sample_id"]]
        stated = now.labels.by_people("wet").to_pylist()
        assert [(row["annotator"], row["state"]) for row in stated] == [("eve", 2)]


def test_every_picture_that_the_filters_show_is_taken(own: tuple[Catalog, Visitor]) -> None:
    catalog, eve = own
    path = "/slices/dark?task=light&wrong=true&split=test&limit=1"
    shown = all_keys(eve, path)
    assert len(shown) > 1
    assert eve.send(path, path, every="1", act="tag", tag="look").status_code == 303
    with catalog.read() as now:
        names = dict(zip(now.samples()["sample_id"].to_pylist(), now.samples()["key"].to_pylist(), strict=True))
        assert sorted(names[id_] for id_ in now.members("attr.tag_look").tolist()) == sorted(shown)


BAD = {
    "nothing chosen": ({"act": "tag", "tag": "x"}, "pictures: none is chosen"),
    "no button": ({"keys": KEYS[:1]}, "form: says nothing to do"),
    "no task": ({"keys": KEYS[:1], "act": "request", "tasks": []}, "tasks: none is chosen"),
    "unknown task": ({"keys": KEYS[:1], "act": "request", "tasks": "nix"}, "the catalog has no such task"),
    "no tag": ({"keys": KEYS[:1], "act": "tag"}, "tag: string should have at least 1"),
    "evil tag": ({"keys": KEYS[:1], "act": "tag", "tag": EVIL}, "a tag is lower-case letters"),
    "unknown key": ({"keys": "nix", "act": "tag", "tag": "x"}, "no sample with this key"),
    "long reason": ({"keys": KEYS[:1], "act": "request", "tasks": "wet", "reason": "x" * 501}, "at most 500"),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "line"), BAD.values(), ids=BAD)
def test_a_bad_form_is_shown_again_with_one_line(
    own: tuple[Catalog, Visitor], fields: dict[str, Any], line: str
) -> None:
    catalog, eve = own
    with catalog.read() as now:
        before = now.commit
    answer = eve.send("/slices/dark?task=light", "/slices/dark?task=light", **fields)
    assert answer.status_code == 409
    assert line in html.unescape(answer.text)
    alerts = [each for _, each in elements(answer.text) if each.get("role") == "alert"]
    assert len(alerts) == 1
    if fields.get("reason") or fields.get("tag"):
        typed = [each.get("value") for tag, each in elements(answer.text) if tag == "input"]
        assert fields.get("reason", fields.get("tag")) in typed
    with catalog.read() as now:
        assert now.commit == before


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("task=nix", "no such task"), ("run=nix", "run 'nix'"), ("task=light&predicted=blue", "has no class 'blue'"),
        ("task=things&predicted=car", "are boxes"), ("task=speed&predicted=3", "as a number"),
        ("task=-&wrong=true", "needs a task"), ("task=light&run=-&wrong=true", "needs a run"),
    ],
)  # fmt: skip
def test_bad_filters_are_one_line_on_the_page(ann: Visitor, query: str, line: str) -> None:
    answer = ann.get(f"/slices/dark?{query}")
    assert answer.status_code in (200, 404)
    assert line in html.unescape(answer.text)


def test_a_reader_sees_and_changes_nothing(made: Catalog) -> None:
    with visiting(made.home, "read", "reader") as reader:
        page = reader.get("/slices/dark")
        assert page.status_code == 200
        assert 'id="picked"' not in page.text
        answer = reader.send("/slices/dark", keys=KEYS[0], act="tag", tag="x")
    assert answer.status_code == 403


def test_an_unknown_slice_is_one_line(ann: Visitor) -> None:
    answer = ann.get(f"/slices/{'x' * 101}")
    assert answer.status_code == 422
    answer = ann.get("/slices/%3Cscript%3E")
    assert answer.status_code == 404
    assert "<script>" not in answer.text
    with pytest.raises(BadInput):
        Client("", ann.secret, http=ann.client).pictures("dark", predicted="nix", task="light")
