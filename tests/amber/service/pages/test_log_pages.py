"""The log: commits by author, task and slice, what one changed, and undoing one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.homes import copy_home, label, labels, make_home
from support.served import served
from support.visitors import Visitor, alerts, visiting

from amber.service.client import Client
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.requests.proposals import Proposal, propose

KEY = "pictures/00001"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """2: a request; 3: bob labels the color of a picture; 4: a slice; 5: cem labels it otherwise, after bob."""
    catalog = make_home(tmp_path_factory.mktemp("log"), samples=40)
    propose(catalog, Proposal(budget=4, random_share=1.0, seed=0), author="ann", batch="ask")
    for author, color, keys in (("bob", "green", (KEY, "pictures/00002")), ("", "", ()), ("cem", "red", (KEY,))):
        if not author:
            with catalog.commit(author="ann", message="a slice <b>") as change:
                change.add_slice("dusk", "attr.night", task="")
            continue
        with catalog.commit(author=author, message=f"{color} by {author}") as change:
            rows = [label(key, "color", color, annotator="bob") for key in keys]
            change.add_labels(labels(rows), source="human")
    return catalog


@pytest.fixture(scope="module")
def visitor(made: Catalog) -> Iterator[Visitor]:
    with visiting(made.home, "read") as visitor:
        yield visitor


@pytest.fixture
def own(made: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(made, tmp_path)


FILTERS = {
    "": [5, 4, 3, 2, 1], "author=bob": [3], "author=ann": [4, 2], "task=color": [5, 3, 2, 1], "task=car": [2, 1],
    "slice=dusk": [4], "author=cem&task=color": [5], "author=cem&task=speed": [],
}  # fmt: skip


@pytest.mark.parametrize(("asked", "found"), FILTERS.items(), ids=FILTERS)
def test_commits_are_filtered(visitor: Visitor, made: Catalog, asked: str, found: list[int]) -> None:
    text = visitor.get(f"/log?{asked}").text
    assert [number for number in range(9, 0, -1) if f'href="/log/{number}"' in text] == found
    words = dict(part.split("=") for part in asked.split("&") if part)
    with made.read() as now:
        task = now.task_ids().get(words.pop("task", ""))
        page = now.log.page(limit=50, task=task, **words)
    assert page.rows["id"].to_pylist() == found


def test_the_log_counts_what_commits_added_and_escapes(visitor: Visitor) -> None:
    text = visitor.get("/log").text
    assert "2 labels" in text
    assert "4 requests" in text
    assert "40 samples" in text
    assert "a slice &lt;b&gt;" in text
    assert visitor.get("/log?task=nosuch").status_code == 404


def test_pages_hold_every_commit_once(made: Catalog) -> None:
    secret = Tokens(made.home).add("pages", "read")
    with served(made.home) as service, Client(service.url, secret) as client:
        page, numbers = client.commits(limit=2), list[int]()
        while True:
            numbers += [row.commit for row in page]
            if not page.next:
                break
            page = client.commits(limit=2, after=page.next)
        assert numbers == [5, 4, 3, 2, 1]
        assert client.commit(3).added == {"labels": 2}
        assert [row.task for row in client.changes(5).labels if not row.slice] == ["color"]


def test_a_commit_shows_what_it_changed(visitor: Visitor) -> None:
    text = visitor.get("/log/5").text
    assert "green" not in text
    assert "Current labels" in text
    assert "dusk" in visitor.get("/log/4").text
    assert "No current label, definition or slice is another after it" in visitor.get("/log/2").text
    for path in ("/log/99", "/log/99/revert"):
        assert "the catalog has commits 1 to" in alerts(visitor.get(path))
    assert visitor.get("/log/nosuch").status_code == 422


def color_of(catalog: Catalog, key: str) -> str:
    with catalog.read() as now:
        codes = dict(zip(*(now.labels("color")[name].to_pylist() for name in ("sample_id", "code")), strict=True))
        return now.task("color").classes[codes[now.sample(key)["sample_id"]]]


def test_a_revert_shows_what_it_undoes_and_keeps_what_was_replaced(own: Catalog) -> None:
    with visiting(own.home) as lead:
        text = lead.get("/log/3/revert").text
        assert "<b>1</b> label<" in text
        assert "1 of its events were replaced by later commits, and are kept" in text
        once = text.split('name="once" value="')[1].split('"')[0]
        with own.read() as now:
            before = now.commit  # a preview leaves nothing
        answers = [lead.send("/log/3/revert", once=once) for _ in range(2)]  # a double click
        assert [answer.status_code for answer in answers] == [303, 303]
        assert answers[0].headers["location"] == answers[1].headers["location"] == f"/log/{before + 1}?undid=3"
        shown = lead.get(answers[0].headers["location"]).text
        assert "This commit undoes commit" in shown
        assert "Nothing: later commits have replaced all of it" in lead.get("/log/3/revert").text
    with own.read() as now:
        assert now.commit == before + 1
        row = now.log.commit(now.commit)
    assert (row["author"], row["message"]) == ("admin", "revert commit 3")
    assert color_of(own, KEY) == "red"  # what cem stated later


def test_only_a_lead_reverts(own: Catalog) -> None:
    for scope in ("read", "label", "owner"):
        with visiting(own.home, scope, f"of-{scope}") as visitor:  # type: ignore[arg-type]
            assert "A token of the scope admin can revert" in visitor.get("/log/3/revert").text
            assert visitor.send("/log/3/revert", once="x").status_code == 403
    secret = Tokens(own.home).add("lead", "admin")
    with served(own.home) as service, Client(service.url, secret) as client:
        seen = client.revert(3, batch="b", preview=True)
        done = client.revert(3, batch="b")
        assert (seen.moved, seen.kept, seen.made) == (done.moved, done.kept, None)
        assert client.revert(3, batch="b").made == done.made
        with pytest.raises(BadInput, match="only commits 1 to"):
            client.revert(999, batch="c")
