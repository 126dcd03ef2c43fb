"""The client of a real Label Studio: lost responses, refusals, expired tokens, versions, reads, and webhooks."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.homes import make_home
from support.label_requests import URL, ask, color, human_labels, items, pushed, states
from support.studio import Studio

from benchmarks.annotators import Annotator
from curation.catalog.catalog import Catalog
from curation.errors import BadInput, Failed, NotFound
from curation.labelstudio.client import LabelStudioClient, Lost
from curation.labelstudio.pull import pull
from curation.labelstudio.push import Asking, push
from curation.labelstudio.session import open_session
from curation.labelstudio.webhook import HEADER, PATH, wake_ups

People = dict[str, Annotator]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return make_home(tmp_path, samples=40)


class Dropping(httpx.HTTPTransport):
    """Drops the response of each matching write once, after the server has done it."""

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
    """Counts the bytes read of items."""

    bytes = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        self.bytes += len(answer.read()) if request.url.path == "/api/tasks/" else 0
        return answer


def test_an_import_with_a_lost_response_makes_no_duplicates(
    catalog: Catalog, studio: Studio, server: LabelStudioClient
) -> None:
    ask(catalog, *((sample, "color") for sample in range(1, 30)))
    dropping = Dropping("/import")
    with studio.server(transport=dropping) as flaky:
        assert push(catalog, flaky, Asking(), url_for=URL).items == 29
    assert len(dropping.dropped) == 1
    assert len(items(catalog, server)) == 29


def test_a_project_with_a_lost_response_is_not_created_twice(
    catalog: Catalog, studio: Studio, server: LabelStudioClient
) -> None:
    ask(catalog, (1, "color"))
    with studio.server(transport=Dropping("/api/projects/")) as flaky, pytest.raises(Failed):
        push(catalog, flaky, Asking(), url_for=URL)
    pushed(catalog, server)
    with open_session(catalog, server) as session:
        assert len(session.projects) == 1


def test_any_lost_response_loses_and_doubles_nothing(
    catalog: Catalog, studio: Studio, server: LabelStudioClient, people: People
) -> None:
    ask(catalog, *((sample, "color") for sample in range(1, 13)))
    flaky = studio.server(transport=Dropping("/api/"))
    insist(lambda: push(catalog, flaky, Asking(overlap=2), url_for=URL))
    present = items(catalog, server)
    assert len(present) == 12
    for number, item in enumerate(present):
        people["ann"].say(item.item, color(catalog, "red"))
        people["bob"].say(item.item, color(catalog, "green" if number < 3 else "red"))
    insist(lambda: pull(catalog, flaky))
    assert [item.overlap for item in items(catalog, server)] == [3] * 3 + [2] * 9
    with studio.server() as reliable:
        assert pull(catalog, reliable).labels == 0
    assert len(human_labels(catalog, "color")) == 24
    assert states(catalog) == ["open"] * 3 + ["answered"] * 9
    flaky.__exit__()


def insist(call: Callable[[], object]) -> None:
    """Repeat a call until it succeeds."""
    for _ in range(10):
        try:
            call()
        except Failed:
            continue
        return
    pytest.fail("ten failures")


def test_a_pull_reads_only_changes(catalog: Catalog, studio: Studio, people: People) -> None:
    """Once no change can be late any more."""
    ask(catalog, *((sample, "color") for sample in range(1, 31)))
    counting = Counting()
    with studio.server(transport=counting) as server:
        pushed(catalog, server)
        pull(catalog, server)
        for item in items(catalog, server)[:2]:
            people["ann"].say(item.item, color(catalog, "red"))
            with open_session(catalog, server) as session:
                reaches = session.cache.reach.items()
                session.cache.reach = {project: replace(reach, sure=reach.newest) for project, reach in reaches}
            before = counting.bytes
            assert pull(catalog, server).labels == 1
            assert 0 < counting.bytes - before < 1_500


def test_late_changes_are_read_again_for_a_minute_and_then_no_more(
    catalog: Catalog, studio: Studio, people: People
) -> None:
    ask(catalog, *((sample, "color") for sample in range(1, 31)))
    counting = Counting()
    with studio.server(transport=counting) as server:

        def read() -> int:
            before = counting.bytes
            pull(catalog, server)
            return counting.bytes - before

        pushed(catalog, server)
        assert min(read(), read()) > 5_000
        with open_session(catalog, server) as session:
            session.cache.reach = {
                project: replace(reach, marked=reach.marked - 61) for project, reach in session.cache.reach.items()
            }
        assert read() > 5_000
        assert read() < 500
        people["ann"].say(items(catalog, server)[0].item, color(catalog, "red"))
        assert read() < 1_500
    assert len(human_labels(catalog, "color")) == 1


def server_with(release: Any, status: int = 200) -> httpx.MockTransport:
    return httpx.MockTransport(lambda request: httpx.Response(status, json=release))


class Failing(httpx.BaseTransport):
    """Lets the first request through, which reads the version; fails all others."""

    def __init__(self, fault: int | type[httpx.TransportError]) -> None:
        self.fault, self.sent = fault, -1

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        if not self.sent:
            return httpx.Response(200, json={"release": "1.23.2"})
        if isinstance(self.fault, int):
            return httpx.Response(self.fault, json={"detail": "busy"}, headers={"Retry-After": "0"})
        raise self.fault("broken")


WRITES: dict[str, tuple[Any, ...]] = {
    "make_project": ({"title": "x"},), "add_items": (1, [{"data": {"image": "x"}}]),
    "change_item": (1, {"overlap": 2}), "remove_item": (1,), "add_hook": (1, "http://x.test/", {}),
    "remove_hook": (1,),
}  # fmt: skip
FAULTS = [408, 409, 429, 500, 502, 503, 504]
BROKEN = [httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadTimeout, httpx.ReadError, httpx.WriteError]


@pytest.mark.parametrize("fault", [*FAULTS, *BROKEN])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_is_sent_once(write: str, fault: Any) -> None:
    """By default the SDK would send most of these three times, and a repeated import doubles its items."""
    failing = Failing(fault)
    with LabelStudioClient("http://studio.test", "t", patience=5, transport=failing) as server:
        with pytest.raises(BadInput if fault in (408, 409) else Lost):
            getattr(server, write)(*WRITES[write])
        assert failing.sent == 1


@pytest.mark.parametrize("fault", [503, httpx.ReadTimeout])
def test_a_read_is_repeated(fault: Any) -> None:
    failing = Failing(fault)
    with LabelStudioClient("http://studio.test", "t", patience=0.4, transport=failing) as server:
        with pytest.raises(Failed):
            server.people()
        assert failing.sent > 1


def test_a_server_that_is_not_label_studio_is_reported() -> None:
    """A page of a proxy, for example."""
    page = httpx.MockTransport(lambda request: httpx.Response(200, text="<html>log in</html>"))
    with (
        LabelStudioClient("http://studio.test", "t", transport=page, any_version=True) as server,
        pytest.raises(Failed, match="not a response of Label Studio"),
    ):
        server.projects()


@pytest.mark.parametrize("release", [{"release": "2.0.1"}, {"release": "1.22.9"}, {"release": "new"}, {}, []])
def test_an_unsupported_version_is_refused(release: Any) -> None:
    with pytest.raises(BadInput, match=r"Amber supports 1\.23"):
        LabelStudioClient("http://studio.test", "t", transport=server_with(release))
    with LabelStudioClient("http://studio.test", "t", transport=server_with(release), any_version=True) as server:
        assert server.url == "http://studio.test"


def test_a_refused_token_is_reported(studio: Studio) -> None:
    with (
        LabelStudioClient(studio.local.url, "0" * 40) as server,
        pytest.raises(BadInput, match="the token was refused"),
    ):
        server.projects()
    with pytest.raises(BadInput, match="the token was refused"):
        LabelStudioClient(studio.local.url, "a.b.c")


class Expired(httpx.HTTPTransport):
    """Replaces the access token of the first listing of projects by an expired one, which the server refuses."""

    refused = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/projects/" and not self.refused:
            request.headers["Authorization"] = "Bearer worn.out.token"
            answer = super().handle_request(request)
            self.refused = int(answer.status_code == 401)
            return answer
        return super().handle_request(request)


def test_an_expired_access_token_is_renewed(studio: Studio) -> None:
    with studio.admin() as admin:
        admin.post("/api/jwt/settings", json={"api_tokens_enabled": True, "legacy_api_tokens_enabled": True})
        made = admin.post("/api/token/")
        assert made.status_code == 201, made.text
    expired = Expired()
    with LabelStudioClient(studio.local.url, made.json()["token"], transport=expired) as server:
        assert server.projects()
        assert (expired.refused, server.projects() != []) == (1, True)


def test_an_unreachable_server_is_reported() -> None:
    with pytest.raises(Failed, match="cannot be reached"):
        LabelStudioClient("http://127.0.0.1:9", "t", patience=0)
    with pytest.raises(BadInput, match="not a URL"):
        LabelStudioClient("studio", "t")


@pytest.mark.parametrize("package", ["httpx", "label_studio_sdk"])
def test_a_missing_extra_is_one_line(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        NotFound, match=rf"^{package}: is not installed; run pip install 'amber-curation\[labeling\]', or"
    ):
        LabelStudioClient("http://studio.test", "t")


def test_missing_projects_and_bad_configs_are_reported(server: LabelStudioClient) -> None:
    with pytest.raises(NotFound, match="was the project deleted"):
        list(server.changed_items(999_999, ""))
    with pytest.raises(BadInput, match="refused"):
        server.make_project({"title": "x", "label_config": "<View><Nosuch/></View>"})


class Deleting(httpx.HTTPTransport):
    """Deletes a project right after the second listing of projects, before its items are read."""

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


def test_a_project_may_be_deleted_while_it_is_read(catalog: Catalog, studio: Studio, server: LabelStudioClient) -> None:
    ask(catalog, (1, "color"), (2, "car"))
    pushed(catalog, server)
    color_, car = sorted(items(catalog, server), key=lambda item: item.sample)
    with studio.server(transport=Deleting(studio, color_.project)) as deleting:
        assert pull(catalog, deleting).waiting == 2
    assert [item.item for item in items(catalog, server)] == [car.item]
    assert (pushed(catalog, server).items, len(items(catalog, server))) == (1, 2)
    server.change_item(color_.item, {"overlap": 2})
    server.remove_item(color_.item)


# Webhooks


def test_an_answer_wakes_the_pull(catalog: Catalog, server: LabelStudioClient, people: People) -> None:
    ask(catalog, (1, "color"))
    pushed(catalog, server)
    (item,) = items(catalog, server)
    with wake_ups(server, [item.project]) as wake_up:
        people["ann"].say(item.item, color(catalog, "red"))
        assert wake_up.wait(10)
        assert len(server.hooks(item.project)) == 1
    assert server.hooks(item.project) == []
    assert pull(catalog, server).labels == 1


def test_a_wake_up_needs_the_secret(server: LabelStudioClient, catalog: Catalog) -> None:
    ask(catalog, (1, "color"))
    pushed(catalog, server)
    project = items(catalog, server)[0].project
    with wake_ups(server, [project]) as wake_up:
        (hook,) = server.hooks(project)
        assert httpx.post(hook["url"], headers={HEADER: "guess"}).status_code == 403
        assert httpx.post(hook["url"].replace(PATH, "/else"), headers=hook["headers"]).status_code == 204
        assert not wake_up.is_set()
        assert httpx.post(hook["url"], headers=hook["headers"], content=json.dumps({"x": 1})).status_code == 204
        assert wake_up.is_set()
