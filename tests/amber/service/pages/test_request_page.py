"""The page of requests: filters and pages, asking, withdrawing and raising, read back from the ledger."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.homes import copy_home, make_home
from support.label_requests import answer, ask
from support.visitors import Visitors, alerts, words

from curation.catalog.catalog import Catalog
from curation.files.atomic import whole
from curation.labelstudio.item_cache import Item, ItemCache

NOTHING = "\u2013"
"""What a cell without a figure holds."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Eight requests for two tasks, of which one is answered, with ten timed answers."""
    catalog = make_home(tmp_path_factory.mktemp("requests"), samples=40)
    ask(catalog, *((sample, "color" if sample % 2 else "car") for sample in range(8)))
    answer(catalog, *((sample, "color", "ann", "known", 4.0, sample) for sample in range(20, 30)))
    with catalog.commit(author="ada", message="close") as change:
        change.close_requests([7], state="answered")
    return catalog


@pytest.fixture
def home(made: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(made, tmp_path)


@pytest.fixture
def visitors(home: Catalog) -> Iterator[Visitors]:
    with Visitors(home.home) as visitors:
        yield visitors


def open_requests(catalog: Catalog) -> list[int]:
    with catalog.read() as now:
        return now.requests.page("open").rows["request_id"].to_pylist()


def images(page: str) -> list[str]:
    return re.findall(r'<a href="/image/(pictures/\d+)"', page)


def test_the_queue_is_filtered_and_paged(visitors: Visitors) -> None:
    bob = visitors.of("bob", "read")
    assert len(images(bob.get("/requests").text)) == 7
    first = bob.get("/requests?task=car&limit=3")
    assert images(first.text) == ["pictures/00000", "pictures/00002", "pictures/00004"]
    following = re.search(r'rel="next" href="([^"]+)"', first.text)
    assert following
    assert images(bob.get(following[1].replace("&amp;", "&")).text) == ["pictures/00006"]
    assert images(bob.get("/requests?state=answered").text) == ["pictures/00007"]
    assert images(bob.get("/requests?arm=nosuch").text) == []
    assert "No open request fits these filters" in bob.get("/requests?arm=nosuch").text
    assert bob.get("/requests?task=colour").status_code == 404
    rows = bob.get("/api/requests?task=color&arm=random").json()
    assert [row["key"] for row in rows] == ["pictures/00001", "pictures/00003", "pictures/00005"]
    table = bob.get("/api/requests?task=car&format=csv&limit=1")
    assert table.text.count("\n") == 2
    assert 'rel="next"' in table.headers["link"]


def test_costs_and_pace_are_measured(visitors: Visitors) -> None:
    bob = visitors.of("bob", "read")
    page = words(bob.seen("/requests", "days to finish are").text)
    assert "color 3 1 0 4.0 0.0 1.0 3.0" in page
    assert f"car 4 0 0{4 * f' {NOTHING}'}" in page
    rows = {row["task"]: row for row in bob.get("/api/requests/pace").json()}
    assert (rows["color"]["seconds"], rows["color"]["days"], rows["car"]["days"]) == (4.0, pytest.approx(3), None)


@pytest.mark.parametrize("scope", ["label", "owner", "admin"])
def test_chosen_requests_are_raised_and_withdrawn(home: Catalog, visitors: Visitors, scope: str) -> None:
    amy = visitors.of("amy", scope)  # type: ignore[arg-type]
    page = amy.get("/requests?task=color")
    there = "/requests/raise?state=open&task=color&slice=&arm="
    answers = [amy.send(there, page, chosen=["5", "3"]) for _ in range(2)]
    assert [each.status_code for each in answers] == [303, 303]
    assert "2 requests put first, in commit" in amy.get(answers[0].headers["location"]).text
    assert "task=color" in answers[0].headers["location"]
    assert open_requests(home) == [3, 5, 0, 1, 2, 4, 6]
    amy.send(there.replace("raise", "withdraw"), page, chosen=["0", "6"], once="other")
    assert open_requests(home) == [3, 5, 1, 2, 4]
    with home.read() as now:
        log = now.log().to_pylist()
        assert [(row["author"], row["message"]) for row in log[:2]] == [
            ("amy", "withdraw 2 label requests"), ("amy", "raise 2 label requests"),
        ]  # fmt: skip


def test_an_answered_request_is_not_withdrawn(home: Catalog, visitors: Visitors) -> None:
    amy = visitors.of("amy", "label")
    page = amy.get("/requests")
    with home.commit(author="ann", message="answer") as change:
        change.close_requests([2], state="answered")
    there = "/requests/withdraw?state=open&task=&slice=&arm="
    refused = amy.send(there, page, chosen=["1", "2"])
    assert refused.status_code == 409
    assert "request 2: pictures/00002 was answered for car" in alerts(refused)
    assert re.search(r'value="1" aria-label="[^"]*" checked', refused.text)
    assert open_requests(home) == [0, 1, 3, 4, 5, 6]
    for chosen, why in (([], "none is chosen"), (["99"], "there is no such request"), (["x"], "'x'")):
        assert why in alerts(amy.send(there, page, chosen=chosen, once="z"))


def test_a_budget_is_asked_for_once(home: Catalog, visitors: Visitors) -> None:
    amy = visitors.of("amy", "label")
    page = amy.get("/requests")
    for _ in range(2):
        done = amy.send("/requests", page, budget="5", random_share="1")
        assert done.status_code == 303
    assert len(open_requests(home)) == 12
    with home.read() as now:
        assert now.log()["author"][0].as_py() == "amy"
    for typed, why in (
        ({"budget": "0"}, "budget '0': Input should be greater than or equal to 1"),
        ({"budget": "5", "random_share": "2"}, "random_share '2'"),
        ({"budget": "5", "triggers": "entropy"}, "the catalog has no run yet"),
        ({"budget": "5", "against": "r1"}, "is read by triggers alone"),
        ({"budget": "<b>"}, "budget '<b>'"),
    ):
        refused = amy.send("/requests", page, **{**typed, "once": "again"})
        assert refused.status_code == 409
        assert why in alerts(refused)
        assert all(f'value="{text}"' in refused.text for text in typed.values() if text.isalnum())
    assert len(open_requests(home)) == 12


def test_a_reader_changes_nothing(home: Catalog, visitors: Visitors) -> None:
    bob, amy = visitors.of("bob", "read"), visitors.of("amy", "label")
    page = bob.get("/requests")
    assert 'name="chosen"' not in page.text
    for path in ("/requests/withdraw", "/requests/raise", "/requests"):
        action = path if path == "/requests" else f"{path}?state=open&task=&slice=&arm="
        assert amy.send(action, chosen=["1"], once="x", form_word="x").status_code == 403
        refused = bob.send(action, chosen=["1"], once="x", budget="3")
        assert (refused.status_code, "its scope is read" in refused.text) == (403, True)
    assert len(open_requests(home)) == 7


def test_an_item_is_opened_in_label_studio_where_it_was_sent(home: Catalog, visitors: Visitors) -> None:
    cache = ItemCache(home.home / "labeling" / f"{'0' * 12}.json", "https://studio.example.org")
    cache._keep(Item(project=3, item=14, key="k", sample="pictures/00001", requests={"color": 1}))
    cache.save()
    page = visitors.of("bob", "read").get("/requests").text
    assert page.count('href="https://studio.example.org/projects/3/data?task=14"') == 1
    for server in ("javascript:alert(1)", "local"):
        cache.server = server
        cache.save()
        assert "/data?task=14" not in visitors.of(server, "read").get("/requests").text
    with whole(cache.path) as part:
        part.write_text("{")
    assert visitors.of("later", "read").get("/requests").status_code == 200
