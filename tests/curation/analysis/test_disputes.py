"""Disputes: exactly the labels that people's disagreement makes unsure, and how a lead settles each kind."""

from pathlib import Path
from typing import Any

import pytest
from support.homes import copy_home, label, labels, make_home
from support.label_requests import ask, states

from curation.analysis.disputes import disputes, settle
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from curation.errors import BadInput, NotFound

ADA, EVE = (Identity(name=name, via="user") for name in ("ada", "eve"))
BOXES = [[{"class": "light", "x": x, "y": 1.0, "w": 5.0, "h": 5.0}] for x in (1.0, 20.0)]
APART = {"color": ["red", "green"], "car": [True, False], "speed": [10.0, 90.0], "things": BOXES}
SETTLED = {"color": "yellow", "car": "true", "speed": "50", "things": "bob"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("disputes"), samples=20)


@pytest.fixture
def catalog(template: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(template, tmp_path)


def say(catalog: Catalog, task: str, sample: int, *values: object) -> None:
    """Statements of ann, bob and cem, each in a commit of its own."""
    for who, value in zip(("ann", "bob", "cem"), values, strict=False):
        with catalog.commit(author=who, message="label") as change:
            change.add_labels(labels([label(key(sample), task, value, who)]), source="human")


def key(sample: int) -> str:
    return f"pictures/{sample:05d}"


def disputed(catalog: Catalog) -> list[tuple[str, str, list[str]]]:
    with catalog.read() as now:
        return [(part.task, part.key, [each.value for each in part.statements]) for part in disputes(now)]


def settled(catalog: Catalog, value: str, task: str = "", sample: int = 1) -> int:
    with catalog.commit(author="ada", message="settle") as change:
        settle(change, key(sample), value, task=task, annotator="ada", by=ADA)
        return change.id


def reverted(catalog: Catalog, commit: int, by: Identity) -> int:
    with catalog.commit(author=by.name, message="revert") as change:
        change.revert(commit, by=by)
        return change.id


def current(catalog: Catalog, task: str) -> dict[str, Any]:
    with catalog.read() as now:
        (row,) = (row for row in now.labels(task).to_pylist() if row["sample_id"] == 1)
    return dict(row)


def test_only_what_no_label_holds_for_is_disputed(catalog: Catalog) -> None:
    say(catalog, "color", 1, "red", "green")
    say(catalog, "color", 2, "red", "red")
    say(catalog, "color", 3, "red", "green", "green")
    say(catalog, "color", 4, None, None)
    say(catalog, "color", 5, "red", None)
    say(catalog, "car", 1, True)
    assert disputed(catalog) == [("color", key(1), ["red", "green"]), ("color", key(5), ["red", "unsure"])]


@pytest.mark.parametrize("task", APART)
def test_a_lead_settles_a_dispute_and_a_revert_opens_it_again(catalog: Catalog, task: str) -> None:
    ask(catalog, (1, task))
    say(catalog, task, 1, *APART[task])
    before = disputed(catalog)
    assert [(name, sample) for name, sample, _ in before] == [(task, key(1))]
    with catalog.read() as now:
        (found,) = disputes(now)
        assert (found.reason, found.open) == ("random: r", True)
    commit = settled(catalog, SETTLED[task])
    row = current(catalog, task)
    assert (row["state"], row["source"], disputed(catalog), states(catalog)) == (1, "lead", [], ["answered"])
    assert (row["code"], row["number"]) == {"color": (1, None), "car": (1, None), "speed": (None, 50.0)}.get(
        task, (None, None)
    )
    if task == "things":
        assert [box["x"] for box in row["boxes"]] == [20.0]
    with catalog.read() as now:
        assert [act["act"] for act in now.ownership.acts(commit - 1).to_pylist()] == ["settle"]
        kept = [row["source"] for row in now.labels.by_annotator(task).to_pylist() if row["sample_id"] == 1]
        assert kept.count("human") == 2
    with pytest.raises(BadInput, match=f"ada has settled {task} in commit {commit}; `amber revert {commit}` opens"):
        settled(catalog, SETTLED[task])
    reverted(catalog, commit, ADA)
    assert (disputed(catalog), states(catalog)) == (before, ["open"])


@pytest.mark.parametrize(
    ("value", "task", "sample", "why"),
    [
        ("blue", "", 1, "'blue' of 'pictures/00001': task color has no such class"),
        ("red", "", 2, "people do not disagree on it"),
        ("red", "car", 1, "people do not disagree on it about car"),
        ("red", "colour", 1, "no such task"),
        ("cem", "", 1, "could not tell"),
        ("fast", "speed", 3, "is a number in km/h"),
        ("light", "things", 3, "naming the person"),
        ("red", "", 3, r"disputed in speed, things; name one with --task"),
    ],
)
def test_what_does_not_settle_is_refused_and_changes_nothing(
    catalog: Catalog, value: str, task: str, sample: int, why: str
) -> None:
    say(catalog, "color", 1, "red", "green", None)
    say(catalog, "speed", 3, *APART["speed"])
    say(catalog, "things", 3, *APART["things"])
    before = disputed(catalog)
    with pytest.raises((BadInput, NotFound), match=why):
        settled(catalog, value, task, sample)
    assert disputed(catalog) == before


def test_only_members_of_the_owner_settle(catalog: Catalog) -> None:
    say(catalog, "color", 1, "red", "green")
    with catalog.commit(author="ada", message="members") as change:
        change.set_members("ada", [EVE], by=ADA)
    with pytest.raises(BadInput, match="dispute about color: needs ada"):
        settled(catalog, "red")


def test_only_members_of_the_owner_open_a_settled_dispute_again(catalog: Catalog) -> None:
    say(catalog, "color", 1, "red", "green")
    commit = settled(catalog, "red")
    with catalog.commit(author="ada", message="members") as change:
        change.set_members("ada", [ADA], by=ADA)
    with pytest.raises(BadInput, match="color: needs ada"):
        reverted(catalog, commit, EVE)
    assert disputed(catalog) == []
    opened = reverted(catalog, commit, ADA)
    assert len(disputed(catalog)) == 1
    with pytest.raises(BadInput, match="color: needs ada"):
        reverted(catalog, opened, EVE)
