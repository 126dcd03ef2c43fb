"""Pages of runs: the list, one run, its report, and trainings while they go on by server-sent events."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path

import httpx
import pytest
from support.homes import copy_home
from support.judged import judged_home
from support.served import served
from support.visitors import Visitor, alerts, signed_in, visiting

from amber.service import streams
from amber.service.client import Client
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.errors import NotFound
from training.live_run import NAME, Live, LiveRun
from training.run import Run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return judged_home(tmp_path_factory.mktemp("judged"))


@pytest.fixture(scope="module")
def visitor(made: Catalog) -> Iterator[Visitor]:
    with visiting(made.home, "read") as visitor:
        yield visitor


@pytest.fixture
def own(made: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(made, tmp_path)


def note(home: Path, run: str, **words: object) -> Live:
    """A training of this process, in `home`."""
    live = replace(LiveRun.begin(home / "runs" / run, plan="a" * 32, parent="", solved=False).now, **words)  # type: ignore[arg-type]
    path = home / "runs" / run / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_text(json.dumps({"format": 1, **asdict(live)}))
    path.with_suffix(".new").rename(path)
    return live


def test_the_list_shows_what_amber_runs_shows(visitor: Visitor, made: Catalog) -> None:
    text = visitor.get("/runs").text
    assert text.index('href="/runs/old"') < text.index('href="/runs/new"')  # the newest first
    assert "even policy" in text
    assert "[0.83, 0.97]" in text
    secret = Tokens(made.home).add("api", "read")
    with served(made.home) as service, Client(service.url, secret) as client:
        rows = client.run_entries()
        assert [row.run for row in rows] == ["old", "new"]
        assert client.run("ne") == rows[1]
        pages = [client.page("/api/run-entries", limit=1)]
        pages.append(client.page("/api/run-entries", limit=1, after=pages[0].next))
        assert [page[0]["run"] for page in pages] == ["old", "new"]
        assert pages[1].next == ""
        assert [link["run"] for link in client.lineage("new").links] == ["new"]
        assert b"<h1>Amber report</h1>" in client.report("new")
        with pytest.raises(NotFound, match="no such run"):
            client.run("nosuch")


def test_older_runs_are_on_later_pages(own: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amber.service.pages.runs.LIMIT", 1)
    with visiting(own.home) as visitor:
        first = visitor.get("/runs").text
        later = visitor.get(
            "/runs?" + first.split('rel="next" href="/runs?')[1].split('"')[0].replace("&amp;", "&")
        ).text
    assert "/runs/old" in first
    assert 'href="/runs/new">' not in first
    assert 'href="/runs/new">' in later
    assert 'rel="next"' not in later


def test_one_run_shows_its_figures_by_task_slice_and_class(visitor: Visitor) -> None:
    text = visitor.get("/runs/new").text
    for task in ("color", "car", "bike", "speed"):
        assert f"?task={task}" in text
    assert "km/h" in text
    color = visitor.get("/runs/new?task=color").text
    assert "yellow_at_night" in color
    assert "too little data: 10 images" in color
    assert "Class by class" in color
    assert "<b>Confusion</b>" in color
    assert "Class by class" not in visitor.get("/runs/new?task=speed").text
    lineage = visitor.get("/runs/new?part=lineage").text
    assert 'class="lineage"' in lineage
    assert "A head counts as solved" in visitor.get("/runs/new?part=training").text
    assert visitor.get("/runs/new?task=nosuch").status_code == 404


def test_an_unknown_or_ambiguous_run_is_one_line(visitor: Visitor, own: Catalog) -> None:
    answer = visitor.get("/runs/nosuch")
    assert answer.status_code == 404
    assert "has no such run" in alerts(answer)
    for name in ("both-1", "both-2"):
        note(own.home, name, done=1, total=2)
    with visiting(own.home) as mine:
        found = mine.get("/runs/both")
        assert found.status_code == 404
        assert "2 begin so (both-1, both-2)" in alerts(found)
        assert mine.get("/runs/*").status_code == 404


def test_a_withdrawn_run_is_marked(own: Catalog) -> None:
    (own.home / "runs" / "new" / "withdrawn.json").write_text('{"at": "2026-01-02T03:04:05"}')
    with visiting(own.home) as visitor:
        assert "withdrawn 2026-01-02" in visitor.get("/runs").text
        assert "was forgotten" in visitor.get("/runs/new").text
        assert "It cannot be released" in visitor.get("/runs/new/release").text


def test_the_report_is_made_in_the_background_and_saved_as_one_file(own: Catalog) -> None:
    with visiting(own.home) as visitor:
        first = visitor.client.get("/runs/new/report")
        assert first.status_code == 200
        ready = visitor.get("/runs/new/report").text
        assert "Open the report" in ready
        shown = visitor.get("/runs/new/report.html")
        assert "<h1>Amber report</h1>" in shown.text
        assert "script-src" not in shown.headers["content-security-policy"]
        assert shown.headers["content-disposition"].startswith("inline")
        saved = visitor.get("/runs/new/report.html?save=true").headers["content-disposition"]
        assert saved.startswith('attachment; filename="report-new')
        folder = visitor.app.state.work._made_folder
        (own.home / "service.forgotten").write_text("0\n")  # an image was forgotten: nothing made before is shown
        visitor.client.get("/runs/new?task=color")
        assert list(folder.glob("*.html")) == []
    assert not folder.exists()


STATES = {
    "training": ({"done": 30, "total": 100, "rate": 42.0, "losses": {"color": 0.25}}, "42 images/s"),
    "killed": ({"done": 30, "total": 100, "process": 2**22 + 1}, "Its process is gone"),
    "failed": ({"done": 30, "total": 100, "outcome": "failed", "line": "disk <full>"}, "disk &lt;full&gt;"),
    "stopped": ({"done": 30, "total": 100, "outcome": "stopped", "line": "stopped after step 3"}, "after step 3"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "line"), STATES.values(), ids=STATES)
def test_a_training_says_how_far_it_is_or_how_it_ended(own: Catalog, words: dict[str, object], line: str) -> None:
    note(own.home, "abc123", **words)
    with visiting(own.home) as visitor:
        whole, listed = visitor.get("/runs/abc").text, visitor.get("/runs").text
        live = [row.model_dump() for row in _live(own)]
    goes_on = "outcome" not in words and "process" not in words
    assert line in whole
    assert ('sse-connect="/events/runs/abc123"' in whole) == goes_on
    assert ('sse-connect="/events/runs"' in listed) == goes_on
    assert "30 of 100 images" in listed
    assert [(row["run"], row["done"], row["line"]) for row in live] == [("abc123", 30, words.get("line", ""))]


def _live(catalog: Catalog) -> list[object]:
    secret = Tokens(catalog.home).add("reader", "read")
    with served(catalog.home) as service, Client(service.url, secret) as client:
        return list(client.live_runs())


def test_a_trained_run_waits_for_its_figures_while_its_process_runs(own: Catalog) -> None:
    note(own.home, "fresh", done=9, total=9, outcome="trained")
    replace(Run.open(own.home, "new"), id="fresh").save(own.home)
    with visiting(own.home) as visitor:
        assert "It is being evaluated" in visitor.client.get("/runs/fresh").text
        note(own.home, "fresh", done=9, total=9, outcome="trained", process=2**22 + 1)
        assert "It was not evaluated" in visitor.client.get("/runs/fresh/live").text
        assert "there are no figures" in visitor.client.get("/runs/fresh").text


def visit(url: str, secret: str) -> httpx.Client:
    client = httpx.Client(base_url=url, timeout=20)
    signed_in(client, secret)
    return client


def events(client: httpx.Client, path: str, upto: str = "event: ended") -> list[str]:
    """The lines of a stream up to one that begins so."""
    lines = []
    with client.stream("GET", path) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            lines.append(line)
            if line.startswith(upto):
                break
    return lines


def test_a_stream_sends_what_changes_and_ends_with_the_training(own: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams.Streams.__init__, "__kwdefaults__", {"every": 0.05, "seconds": 60.0})
    secret = Tokens(own.home).add("reader", "read")
    note(own.home, "abc", done=1, total=9)
    with served(own.home) as service, closing(visit(service.url, secret)) as client:
        work = service.app.state.work
        seen = []
        with client.stream("GET", "/events/runs/abc") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                seen.append(line)
                if "1 of 9 images" in line:
                    note(own.home, "abc", done=5, total=9)
                if "5 of 9 images" in line:
                    note(own.home, "abc", done=5, total=9, process=2**22 + 1)
        text = "\n".join(seen)
        assert text.count("event: live") == 3
        assert "Its process is gone" in text
        assert "event: ended" in text
        assert events(client, "/events/runs")[-1] == "event: ended"
        wait_until(lambda: work.streams.running == 0)
        assert httpx.get(f"{service.url}/events/runs").status_code == 401


def test_streams_are_limited_and_end_with_their_clients(own: Catalog) -> None:
    secret = Tokens(own.home).add("reader", "read")
    note(own.home, "abc", done=1, total=9, process=os.getpid())
    with ExitStack() as last, served(own.home) as service:
        work = service.app.state.work
        work.streams = streams.Streams(2)
        clients = [visit(service.url, secret) for _ in range(3)]
        with ExitStack() as watching:
            for client in clients[:2]:
                watching.enter_context(closing(client))
                assert watching.enter_context(client.stream("GET", "/events/runs")).status_code == 200
            refused = clients[2].get("/events/runs")
            assert refused.status_code == 503
            assert "2 streams run already" in refused.json()["detail"]
            assert clients[2].get("/runs").status_code == 200  # streams take no turn
        wait_until(lambda: work.streams.running == 0)
        last.enter_context(closing(clients[2]))
        assert last.enter_context(clients[2].stream("GET", "/events/runs")).status_code == 200
        began = time.monotonic()
    assert time.monotonic() - began < 5  # the service stops though somebody looks


def wait_until(true: object) -> None:
    end = time.monotonic() + 10
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)
