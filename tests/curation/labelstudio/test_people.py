"""People at a real Label Studio: items are given to them, disputes are settled, instructions have versions."""

from pathlib import Path
from typing import Any

import pytest
from support.homes import make_home
from support.label_requests import ask, color, human_labels, items, pushed, states
from support.studio import Studio

from benchmarks.annotators import Annotator
from curation.analysis.disputes import disputes, settle
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.pull import pull

People = dict[str, Annotator]
ADA = Identity(name="ada", via="user")


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return make_home(tmp_path, samples=40)


def assign(catalog: Catalog, who: str, most: int | None = None) -> None:
    with catalog.commit(author="ada", message="assign") as change:
        change.people.assign("color", f"{who}@people.test", most=most, by=ADA)


def instruct(catalog: Catalog, text: str) -> None:
    with catalog.commit(author="ada", message="instructions") as change:
        change.people.set_instructions("color", text, by=ADA)


def leave(catalog: Catalog, who: str) -> None:
    with catalog.commit(author="ada", message="left") as change:
        change.people.mark_left(f"{who}@people.test", left=True)


def given(catalog: Catalog, server: LabelStudioClient) -> dict[str, list[int]]:
    """The samples of each person's open items."""
    found: dict[str, list[int]] = {}
    for item in items(catalog, server):
        for person in item.assigned if item.unfinished else ():
            found.setdefault(person.partition("@")[0], []).append(int(item.sample[-5:]))
    return found


def queue(person: Annotator, project: int) -> dict[str, Any] | None:
    """The next item of a person's own view, as "Label All Tasks" there asks for it."""
    views = person.api.get("/api/dm/views", params={"project": project}).json()
    (data,) = (view["data"] for view in views if view["data"]["title"] == person.email)
    body = {"filters": data["filters"], "ordering": data["ordering"], "selectedItems": {"all": True, "excluded": []}}
    answer = person.api.post("/api/dm/actions", params={"id": "next_task", "project": project}, json=body)
    return answer.json() if answer.status_code == 200 else None


def work(person: Annotator, project: int, value: list[dict[str, Any]]) -> list[int]:
    """Answer everything in a person's view; returns the samples in order."""
    seen = []
    while item := queue(person, project):
        person.say(item["id"], value)
        seen.append(int(item["meta"]["amber"]["sample"][-5:]))
    return seen


def test_assignment_disputes_and_instructions(
    catalog: Catalog, server: LabelStudioClient, studio: Studio, people: People
) -> None:
    ann, bob, cem = people["ann"], people["bob"], people["cem"]
    instruct(catalog, "Say which lamp is lit.")
    assign(catalog, "ann", 3)
    assign(catalog, "bob", 2)
    ask(catalog, *((sample, "color") for sample in (9, 3, 7, 1, 5, 2, 8)))
    first = pushed(catalog, server)
    project = int(first.projects[0].rpartition("/")[2])
    assert (first.items, first.held, given(catalog, server)) == (5, 2, {"ann": [5, 7, 9], "bob": [1, 3]})
    (about,) = (item for item in items(catalog, server) if item.sample.endswith("9"))
    assert (about.reasons, about.priority, about.instructions) == ({"color": "random: r"}, 0, {"color": 1})

    # the queue of each person holds their items only, by priority; somebody else's answer counts and is reported
    others = next(item for item in items(catalog, server) if item.sample.endswith("1"))
    cem.say(others.item, color(catalog, "green"))
    assert work(ann, project, color(catalog, "red")) == [9, 7, 5]
    done = pull(catalog, server)
    assert (done.labels, done.by_others, pull(catalog, server).by_others) == (4, 1, 0)
    assert (pushed(catalog, server).items, given(catalog, server)) == (2, {"ann": [2, 8], "bob": [3]})

    # the open items of a person who left go to the others
    leave(catalog, "bob")
    assign(catalog, "ann", 10)
    assert (pushed(catalog, server).reassigned, given(catalog, server)) == (1, {"ann": [2, 3, 8]})
    assert len(human_labels(catalog, "color")) == 4

    # a new text goes to a new project with the items that nobody has answered
    ann.say(next(item for item in items(catalog, server) if item.sample.endswith("3")).item, color(catalog, "red"))
    instruct(catalog, "Say which lamp is lit. An arrow counts.")
    again = pushed(catalog, server)
    newer = int(again.projects[0].rpartition("/")[2])
    assert (again.outdated, again.items, newer == project) == (2, 2, False)
    with studio.admin() as admin:
        assert "An arrow counts." in admin.get(f"/api/projects/{newer}").json()["expert_instruction"]
    assert work(ann, newer, color(catalog, "red")) == [2, 8]
    pull(catalog, server)
    with catalog.read() as now:
        assert now.members(now.check_slice("instructions.color < 2")).tolist() == [1, 3, 5, 7, 9]
        assert now.members(now.check_slice("instructions.color = 2")).tolist() == [2, 8]

    # where two disagree the lead settles it, and nobody else is asked
    assign(catalog, "cem")
    ask(catalog, (12, "color"))
    made = pushed(catalog, server, overlap=2)
    place = int(made.projects[0].rpartition("/")[2])
    (disputed,) = (item for item in items(catalog, server) if item.sample.endswith("12"))
    with studio.admin() as admin:
        admin.patch(f"/api/tasks/{disputed.item}", json={"overlap": 2}).raise_for_status()
    pushed(catalog, server, overlap=2)
    assert given(catalog, server) == {"ann": [12], "cem": [12]}
    assert work(ann, place, color(catalog, "red")) == work(cem, place, color(catalog, "green")) == [12]
    assert pull(catalog, server).disputed == 1
    with catalog.read() as now:
        (found,) = disputes(now)
    assert [(each.value, each.instructions) for each in found.statements] == [("red", 2), ("green", 2)]
    with catalog.commit(author="lea", message="settle") as change:
        settle(change, found.key, "yellow", task="", annotator="lea", by=ADA)
    pushed(catalog, server)
    assert (set(states(catalog)), [item for item in items(catalog, server) if item.unfinished]) == ({"answered"}, [])
    assert bob.next(place) is None
    with catalog.read() as now:
        assert {row["sample_id"]: row["code"] for row in now.labels("color").to_pylist()}[12] == 1
