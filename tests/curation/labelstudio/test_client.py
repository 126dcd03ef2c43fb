"""The wire to a real Label Studio: what is lost, refused, worn out or unknown, what is read, and the bell."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.asked import URL, ask, color, items, said, sent, states
from support.homes import make_home
from support.studio import Studio

from benchmarks.annotators import Annotator
from curation.catalog.catalog import Catalog
from curation.errors import BadInput, Failed, NotFound
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.pull import pull
from curation.labelstudio.push import Asking, push
from curation.labelstudio.session import open_session
from curation.labelstudio.webhook import HEADER, PATH, bell

People = dict[str, Annotator]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return make_home(tmp_path, samples=40)


class Dropping(httpx.HTTPTransport):
    """Loses the answer to every write of a kind, once each, after the server has done it."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part
        self.dropped: set[bytes] = set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        body = request.read()
        if request.method != "GET" and self.part in request.url.path and body not in self.dropped:
            self.dropped.add(body)
            answer.read()
            raise httpx.ReadError("dropped")
        return answer


class Counting(httpx.HTTPTransport):
    """Counts what is read of items."""

    bytes = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        self.bytes += len(answer.read()) if request.url.path == "/api/tasks" else 0
        return answer


def test_an_import_whose_answer_is_lost_is_not_doubled(
    catalog: Catalog, studio: Studio, server: LabelStudioClient
) -> None:
    ask(catalog, *((sample, "color") for sample in range(1, 30)))
    dropping = Dropping("/import")
    with studio.server(transport=dropping) as flaky:
        assert push(catalog, flaky, Asking(), url_for=URL).items == 29
    assert len(dropping.dropped) == 1
    assert len(items(catalog, server)) == 29


def test_a_project_whose_answer_is_lost_is_not_doubled(
    catalog: Catalog, studio: Studio, server: LabelStudioClient
) -> None:
    ask(catalog, (1, "color"))
    with studio.server(transport=Dropping("/api/projects/")) as flaky, pytest.raises(Failed):
        push(catalog, flaky, Asking(), url_for=URL)
    sent(catalog, server)
    with open_session(catalog, server) as desk:
        assert len(desk.projects) == 1


def test_whatever_answer_is_lost_nothing_is_lost_or_doubled(
    catalog: Catalog, studio: Studio, server: LabelStudioClient, people: People
) -> None:
    ask(catalog, *((sample, "color") for sample in range(1, 13)))
    flaky = studio.server(transport=Dropping("/api/"))
    insist(lambda: push(catalog, flaky, Asking(overlap=2), url_for=URL))
    there = items(catalog, server)
    assert len(there) == 12
    for place, item in enumerate(there):
        people["ann"].say(item.item, color(catalog, "red"))
        people["bob"].say(item.item, color(catalog, "green" if place < 3 else "red"))
    insist(lambda: pull(catalog, flaky))
    assert [item.overlap for item in items(catalog, server)] == [3] * 3 + [2] * 9
    with studio.server() as sound:
        assert pull(catalog, sound).labels == 0
    assert len(said(catalog, "color")) == 24
    assert states(catalog) == ["open"] * 3 + ["answered"] * 9
    flaky.__exit__()


def insist(call: Callable[[], object]) -> None:
    """Run the same again until it says that it is done."""
    for _ in range(10):
        try:
            call()
        except Failed:
            continue
        return
    pytest.fail("never done")


def test_a_pull_reads_what_changed(
    catalog: Catalog, studio: Studio, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.labelstudio.item_cache.OVERLAP", timedelta(0))
    ask(catalog, *((sample, "color") for sample in range(1, 31)))
    counting = Counting()
    with studio.server(transport=counting) as server:
        sent(catalog, server)
        pull(catalog, server)
        for item in items(catalog, server)[:2]:
            people["ann"].say(item.item, color(catalog, "red"))
            before = counting.bytes
            assert pull(catalog, server).labels == 1
            assert 0 < counting.bytes - before < 1_500


def test_what_may_come_late_is_read_again_for_a_minute_and_then_no_more(
    catalog: Catalog, studio: Studio, people: People
) -> None:
    ask(catalog, *((sample, "color") for sample in range(1, 31)))
    counting = Counting()
    with studio.server(transport=counting) as server:

        def read() -> int:
            before = counting.bytes
            pull(catalog, server)
            return counting.bytes - before

        sent(catalog, server)
        assert min(read(), read()) > 5_000
        with open_session(catalog, server) as desk:
            desk.mirror.reach = {
                project: replace(reach, marked=reach.marked - 61) for project, reach in desk.mirror.reach.items()
            }
        assert read() > 5_000
        assert read() < 500
        people["ann"].say(items(catalog, server)[0].item, color(catalog, "red"))
        assert read() < 1_500
    assert len(said(catalog, "color")) == 1


def told(release: Any, status: int = 200) -> httpx.MockTransport:
    return httpx.MockTransport(lambda request: httpx.Response(status, json=release))


@pytest.mark.parametrize("release", [{"release": "2.0.1"}, {"release": "1.22.9"}, {"release": "new"}, {}, []])
def test_a_server_of_an_unknown_version_is_refused(release: Any) -> None:
    with pytest.raises(BadInput, match=r"Amber knows 1\.23"):
        LabelStudioClient("http://studio.test", "t", transport=told(release))
    with LabelStudioClient("http://studio.test", "t", transport=told(release), any_version=True) as server:
        assert server.url == "http://studio.test"


def test_a_token_that_is_refused_is_said_so(studio: Studio) -> None:
    with (
        LabelStudioClient(studio.local.url, "0" * 40) as server,
        pytest.raises(BadInput, match="the token was refused"),
    ):
        server.projects()
    with pytest.raises(BadInput, match="the token was refused"):
        LabelStudioClient(studio.local.url, "a.b.c")


def test_a_personal_token_is_renewed(studio: Studio) -> None:
    with studio.admin() as admin:
        admin.post("/api/jwt/settings", json={"api_tokens_enabled": True, "legacy_api_tokens_enabled": True})
        made = admin.post("/api/token/")
        assert made.status_code == 201, made.text
    with LabelStudioClient(studio.local.url, made.json()["token"]) as server:
        server._client.headers["Authorization"] = "Bearer worn.out.token"
        assert server.projects()


def test_what_cannot_be_reached_is_said_so() -> None:
    with pytest.raises(Failed, match="cannot be reached"):
        LabelStudioClient("http://127.0.0.1:9", "t", patience=0)
    with pytest.raises(BadInput, match="no address"):
        LabelStudioClient("studio", "t")


def test_what_is_not_there_and_what_is_refused(server: LabelStudioClient) -> None:
    with pytest.raises(NotFound, match="was the project deleted"):
        list(server.changed_items(999_999, ""))
    with pytest.raises(BadInput, match="refused"):
        server.make_project({"title": "x", "label_config": "<View><Nosuch/></View>"})


class Deleting(httpx.HTTPTransport):
    """Deletes a project as soon as projects have been listed to read their items: after the second time."""

    def __init__(self, studio: Studio, project: int) -> None:
        super().__init__()
        self.studio, self.project, self.listed = studio, project, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        self.listed += request.url.path == "/api/projects/"
        if self.listed == 2 and request.url.path == "/api/projects/":
            answer.read()
            with self.studio.admin() as admin:
                admin.delete(f"/api/projects/{self.project}").raise_for_status()
        return answer


def test_a_project_that_is_deleted_while_it_is_read_is_a_deleted_one(
    catalog: Catalog, studio: Studio, server: LabelStudioClient
) -> None:
    ask(catalog, (1, "color"), (2, "car"))
    sent(catalog, server)
    color_, car = sorted(items(catalog, server), key=lambda item: item.sample)
    with studio.server(transport=Deleting(studio, color_.project)) as wire:
        assert pull(catalog, wire).waiting == 2
    assert [item.item for item in items(catalog, server)] == [car.item]
    assert (sent(catalog, server).items, len(items(catalog, server))) == (1, 2)
    server.change_item(color_.item, {"overlap": 2})
    server.remove_item(color_.item)


# The bell


def test_the_bell_rings_when_somebody_answers(catalog: Catalog, server: LabelStudioClient, people: People) -> None:
    ask(catalog, (1, "color"))
    sent(catalog, server)
    (item,) = items(catalog, server)
    with bell(server, [item.project]) as rung:
        people["ann"].say(item.item, color(catalog, "red"))
        assert rung.wait(10)
        assert len(server.hooks(item.project)) == 1
    assert server.hooks(item.project) == []
    assert pull(catalog, server).labels == 1


def test_only_who_knows_the_secret_rings(server: LabelStudioClient, catalog: Catalog) -> None:
    ask(catalog, (1, "color"))
    sent(catalog, server)
    project = items(catalog, server)[0].project
    with bell(server, [project]) as rung:
        (hook,) = server.hooks(project)
        assert httpx.post(hook["url"], headers={HEADER: "guess"}).status_code == 403
        assert httpx.post(hook["url"].replace(PATH, "/else"), headers=hook["headers"]).status_code == 204
        assert not rung.is_set()
        assert httpx.post(hook["url"], headers=hook["headers"], content=json.dumps({"x": 1})).status_code == 204
        assert rung.is_set()
