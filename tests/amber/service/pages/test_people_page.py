"""The page of people: their work, and the acts of leads, read back from the ledger."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.homes import copy_home, label, labels, make_home
from support.label_requests import answer, ask
from support.shared_plans import EVE, set_members
from support.visitors import Visitors, alerts, words

from curation.catalog.catalog import Catalog
from curation.labelstudio.item_cache import Item, ItemCache


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Two people who disagree on an image, and one of whom answered twice."""
    catalog = make_home(tmp_path_factory.mktemp("people"), samples=40)
    ask(catalog, (1, "color"), (2, "color"))
    answer(catalog, *((sample, "color", "ann@x.org", "known", 4.0, sample) for sample in (1, 2)))
    with catalog.commit(author="people", message="label") as change:
        for who, value in (("ann@x.org", "red"), ("bob@x.org", "green")):
            change.add_labels(labels([label("pictures/00001", "color", value, who)]), source="human")
    return catalog


@pytest.fixture
def home(made: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(made, tmp_path)


@pytest.fixture
def visitors(home: Catalog) -> Iterator[Visitors]:
    with Visitors(home.home) as visitors:
        yield visitors


def settled_by(catalog: Catalog) -> list[str]:
    with catalog.read() as now:
        return [row["annotator"] for row in now.labels.by_annotator("color").to_pylist() if row["source"] == "lead"]


def test_work_and_items_are_shown(home: Catalog, visitors: Visitors) -> None:
    cache = ItemCache(home.home / "labeling" / f"{'0' * 12}.json", "https://studio.example.org")
    done = [{"id": 1, "completed_by": 9, "updated_at": "2026-01-01T00:00:00Z"}]
    for number, given, annotations in ((1, ("ann@x.org",), done), (2, ("ann@x.org",), [])):
        cache._keep(
            Item(
                project=1, item=number, key=str(number), sample=f"pictures/{number:05d}",
                requests={"color": number - 1}, assigned=given, annotations=annotations,
            )
        )  # fmt: skip
    cache.save()
    reader = visitors.of("amy", "read")
    page = words(reader.seen("/people", "ann@x.org").text)
    assert "ann@x.org 2 4.0" in page
    assert "1 pair 2 1 1 0" in page
    assert "Settling needs a token of the scope admin" in words(reader.seen("/people", "pictures/00001").text)
    (ann, bob) = reader.get("/api/people").json()
    assert (ann["person"], ann["answers"], ann["given"], ann["open"], ann["answered"]) == ("ann@x.org", 2, 2, 1, 1)
    assert (bob["agreement"]["value"], bob["tasks"]) == (0.0, {})
    weeks = reader.get("/api/people/weeks").json()
    assert ("2025-12-29", 2) in [(row["week"], row["answers"]) for row in weeks if row["person"] == "ann@x.org"]
    assert reader.get("/api/people?format=csv").text.startswith('"person","week"')


def test_a_lead_settles_a_dispute(home: Catalog, visitors: Visitors) -> None:
    lea = visitors.of("lea", "admin")
    page = lea.seen("/people", "pictures/00001")
    refused = lea.send("/people/settle", page, value="blue")
    assert refused.status_code == 409
    assert "blue" in alerts(refused)
    assert 'value="blue"' in refused.text
    done = lea.send("/people/settle", page, value="bob@x.org", once="other")
    assert done.status_code == 303
    assert "settled by token:lea" in lea.get(done.headers["location"]).text
    assert lea.send("/people/settle", page, value="bob@x.org", once="other").status_code == 303
    assert settled_by(home) == ["lea"]
    assert "lea has settled color" in alerts(lea.send("/people/settle", page, value="red", once="third"))
    lea.seen("/people", "Nothing is disputed")
    with home.read() as now:
        assert now.labels("color").filter(now.labels("color")["sample_id"].to_numpy() == 1)["code"].to_pylist() == [2]


def test_items_are_assigned_with_a_limit(home: Catalog, visitors: Visitors) -> None:
    lea = visitors.of("lea", "admin")
    page = lea.get("/people")
    for typed, why in (
        ({"person": "nobody"}, "nobody: not known; known are ann@x.org, bob@x.org"),
        ({"person": "ann", "limit": "-1"}, "limit '-1'"),
        ({"person": "ann", "task": "colour"}, "did you mean 'color'"),
        ({"person": "a b@x.org"}, "must be an e-mail address"),
        ({"person": "<x>@x.org"}, "must be an e-mail address"),
        ({"person": ""}, "person ''"),
    ):
        refused = lea.send("/people/assign", page, **{"task": "color", "once": "x", **typed})
        assert (refused.status_code, why in alerts(refused)) == (409, True), alerts(refused)
    assert 'value="&lt;x&gt;@x.org"' in lea.send("/people/assign", page, task="color", person="<x>@x.org").text
    for person, limit in (("ann", "5"), ("new@x.org", ""), ("bob", "0")):
        done = lea.send("/people/assign", page, task="color", person=person, limit=limit, once=person)
        assert done.status_code == 303
    with home.read() as now:
        found = [(part.task, part.person, part.most) for part in now.people.assignments()]
    assert found == [("color", "ann@x.org", 5), ("color", "new@x.org", None)]


def test_who_leads(home: Catalog, visitors: Visitors) -> None:
    admin, eve, reader = visitors.of("lea", "admin"), visitors.of("eve", "label"), visitors.of("amy", "read")
    page = admin.seen("/people", "pictures/00001")
    body = {"task": "color", "person": "ann@x.org", "batch": "b"}
    assert eve.client.post("/api/assignments", json=body).status_code == 403
    with home.commit(author="eve", message="settle") as change:  # eve settles one on the command line
        change.add_labels(labels([label("pictures/00009", "color", "red", "eve")]), source="lead")
        change.add_labels(labels([label("pictures/00010", "color", "red", "amy")]), source="lead")
    assert eve.client.post("/api/assignments", json=body).status_code == 200
    assert reader.client.post("/api/assignments", json=body).status_code == 403
    assert eve.send("/people/settle", eve.seen("/people", "pictures/00001"), value="red").status_code == 303
    assert settled_by(home).count("eve") == 2
    set_members(home, "ada", EVE)  # then the catalog decides: color is ada's, and lea is no member
    refused = admin.send("/people/assign", page, task="color", person="ann", once="y")
    assert "assignment of color: needs ada (token:eve), and you are token:lea" in alerts(refused)
    assert (
        eve.client.post("/api/settlements", json={"task": "car", "key": "k", "value": "x", "batch": "c"}).status_code
        == 404
    )
