"""The service: who may do what, bad requests, and JSON that matches the OpenAPI document."""

import base64
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from support.homes import copy_home, make_home
from support.served import Served, served

from amber.service.client import Client
from amber.service.middleware import BODY
from amber.service.models.ledger import AskedFor, GivenLabel
from amber.service.tokens import SCOPES, Tokens
from curation.catalog.catalog import Catalog
from curation.errors import BadInput, NotFound

Http = httpx.Client


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("service"), samples=40)


@pytest.fixture(scope="module")
def secrets(made: Catalog) -> dict[str, str]:
    return {scope: Tokens(made.home).add(scope, scope) for scope in SCOPES}


@pytest.fixture(scope="module")
def service(made: Catalog, secrets: dict[str, str]) -> Iterator[Served]:
    with served(made.home) as running:
        yield running


@pytest.fixture(scope="module")
def http(service: Served) -> Iterator[Http]:
    alone = httpx.Limits(max_keepalive_connections=0)  # a refused body ends its connection
    with httpx.Client(base_url=service.url, timeout=60, limits=alone) as client:
        yield client


@pytest.fixture(scope="module")
def reader(http: Http, secrets: dict[str, str]) -> Client:
    return Client("", secrets["read"], http=http)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}".strip()}


def routes(service: Served) -> list[tuple[str, str]]:
    """Every (method, path) but /health."""
    paths = service.app.openapi()["paths"].items()
    found = [
        (
            method.upper(),
            path.replace("{key}", "k")
            .replace("{task}", "color")
            .replace("{run}", "r")
            .replace("{commit}", "1")
            .replace("{plan}", "0000"),
        )
        for path, ms in paths
        for method in ms
    ]
    return [*(route for route in found if route[1] != "/health"), ("GET", "/openapi.json"), ("GET", "/docs")]


# Who may do what


def test_every_route_but_health_needs_a_token(http: Http, service: Served) -> None:
    assert http.get("/health").json() == {"status": "ok"}
    assert len(routes(service)) >= 14
    for method, path in routes(service):
        for headers in ({}, bearer(""), bearer("amber_guess"), {"Authorization": "Basic !"}, {"Authorization": "x"}):
            assert http.request(method, path, headers=headers, json={}).status_code == 401, (method, path, headers)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_of_one_scope_fails_on_another(
    http: Http, service: Served, secrets: dict[str, str], scope: str
) -> None:
    wants = {"POST": ("label", "owner"), "GET": ("read", "owner")}
    more = {
        "/metrics": ("admin",), "/api/labels": ("label", "owner", "admin"), "/api/why/k": ("read", "label", "owner"),
        "/api/picked/shown": ("read", "label", "owner"), "POST /api/sign-offs": ("label", "owner", "admin"),
        "/api/gates": ("label", "owner", "admin"), "/api/releases/signed": ("label", "owner", "admin"),
        "POST /api/releases": ("admin",), "/api/releases/back": ("admin",), "/api/commits/1/revert": ("admin",),
        "/api/requests/withdrawn": ("label", "owner", "admin"), "/api/requests/raised": ("label", "owner", "admin"),
        "/api/policy/check": ("read", "owner"), "POST /api/policy": ("owner",), "/api/assignments": ("admin",),
        "/api/settlements": ("admin",), "POST /api/slices": ("label", "owner", "admin"),
    }  # fmt: skip
    for method, path in routes(service):
        status = http.request(method, path, headers=bearer(secrets[scope]), json={}).status_code
        allowed = more.get(f"{method} {path}", more.get(path, wants[method]))
        assert (status == 403) == (scope not in allowed), (method, path, status)


def test_tokens_are_stored_hashed_and_can_be_removed_or_expire(made: Catalog, http: Http) -> None:
    tokens = Tokens(made.home)
    secret = tokens.add("for a while", "read")
    old = tokens.add("gone by", "read", expires="2020-01-01T00:00:00+00:00")
    text = (made.home / "service.json").read_text()
    assert secret not in text
    assert old not in text
    assert os.stat(made.home / "service.json").st_mode & 0o077 == 0
    assert http.get("/api/tasks", headers=bearer(secret)).status_code == 200
    assert http.get("/api/tasks", headers=bearer(old)).status_code == 401
    basic = base64.b64encode(f"any:{secret}".encode()).decode()
    assert http.get("/docs", headers={"Authorization": f"Basic {basic}"}).status_code == 200
    tokens.remove("for a while")
    assert http.get("/api/tasks", headers=bearer(secret)).status_code == 401
    with pytest.raises(BadInput, match="no other token"):
        tokens.add("gone by", "read")
    with pytest.raises(NotFound):
        tokens.remove("nosuch")


# Bad requests


def test_bodies_are_limited(http: Http, secrets: dict[str, str]) -> None:
    headers = {**bearer(secrets["label"]), "Content-Type": "application/json"}
    assert http.post("/api/labels", content=b" " * (BODY + 1), headers=headers).status_code == 413
    stream = (b" " * 65_536 for _ in range(64))
    assert http.post("/api/labels", content=stream, headers=headers).status_code == 413
    deep = b"[" * 100_000
    assert http.post("/api/labels", content=deep, headers=headers).status_code in (400, 422)


@pytest.mark.parametrize("text", ["a\r\nX-Evil: 1", "a\nb", "\x00", "a\x7f"])
def test_no_text_becomes_a_header_or_a_line_of_the_log(
    http: Http, secrets: dict[str, str], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "amber.service"):
        one = http.get("/api/samples", params={"other": text, "limit": 1}, headers=bearer(secrets["read"]))
        assert http.get("/api/samples", params={"after": text}, headers=bearer(secrets["read"])).status_code == 409
        labels = [{"key": "pictures/00001", "task": "color", "value": "red"}]
        body = {"annotator": text, "batch": "b", "labels": labels}  # no line, so 422
        other = http.post("/api/labels", json=body, headers=bearer(secrets["label"]))
    assert (one.status_code, other.status_code) == (200, 422)
    assert "x-evil" not in {*one.headers, *other.headers}
    for record in caplog.records:
        assert set(json.loads(record.getMessage())) == {"at", "route", "method", "status", "ms", "token"}
        assert "\n" not in record.getMessage()


def test_another_host_is_refused(http: Http) -> None:
    assert http.get("/health", headers={"Host": "evil.test"}).status_code == 400


# Responses


def test_the_client_reads_the_catalog(reader: Client, made: Catalog) -> None:
    with made.read() as now:
        keys, colors = now.samples()["key"].to_pylist(), now.labels("color")
    assert [row.key for row in reader.samples(limit=3)] == keys[:3]
    assert [row.key for row in reader.samples(limit=2, after=reader.samples(limit=5).next)] == keys[5:7]
    assert reader.sample(keys[7]).key == keys[7]
    assert len(reader.labels("color", limit=1_000)) == len(colors)
    assert reader.labels("things")[0].value == [{"class": "light", "x": 2, "y": 2, "w": 5, "h": 8}]
    assert {row.name for row in reader.tasks()} == {"color", "car", "bike", "speed", "things"}
    assert {row.name for row in reader.slices()} == {"yellow", "yellow_at_night", "night"}
    assert sum(row.samples for row in reader.coverage() if (row.task, row.slice) == ("color", "")) == len(keys)
    assert reader.image(reader.sample(keys[0]), size=64)[:2] == b"\xff\xd8"
    assert (reader.plans(), reader.runs(), reader.requests()) == ([], [], [])
    with pytest.raises(NotFound):
        reader.sample("nosuch")
    with pytest.raises(NotFound):
        reader.labels("nosuch")
    with pytest.raises(BadInput):
        reader.give([GivenLabel(key=keys[0], task="color", value="red")], batch="b")


def test_labels_are_requested_and_given_once(made: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(made, tmp_path)
    secret = Tokens(catalog.home).add("ann", "label")
    with served(catalog.home) as service, Client(service.url, secret) as client:
        asked = AskedFor(budget=5, random_share=1, batch="one")
        assert (client.ask(asked).requests, client.ask(asked).requests) == (5, 0)
        labels = [GivenLabel(key="pictures/00001", task=task, value=value)
                  for task, value in (("color", "red"), ("car", None), ("speed", 3), ("things", []))]  # fmt: skip
        assert client.give(labels, batch="two").requests == 4
        assert client.give(labels, batch="two").requests == 0
        with pytest.raises(BadInput, match="no such class"):
            client.give([GivenLabel(key="pictures/00001", task="color", value="blue")], batch="three")
    with catalog.read() as now:
        assert len(now.requests("open")) == 5
        given = now.labels.by_annotator("color").to_pylist()
    assert {row["annotator"] for row in given if row["source"] == "human"} == {"ann"}


def test_batches_of_clients_are_apart_from_each_other_and_from_amber(made: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(made, tmp_path)
    tokens = [Tokens(catalog.home).add(name, "label") for name in ("ann", "bob", "a:b", "a")]
    taken = ["loop:0123456789ab:0:answer", "service:ann:one", "pictures", "one", "b:one"]
    with served(catalog.home) as service:
        for value, secret in zip(("red", "green", "red", "green"), tokens, strict=True):
            with Client(service.url, secret) as client:
                labels = [GivenLabel(key="pictures/00001", task="color", value=value)]
                assert [client.give(labels, batch=batch).requests for batch in taken] == [1] * len(taken)
    with catalog.read() as now:
        assert not now.has(taken[0])
        assert now.batch("pictures") == 1


def test_only_an_admin_labels_in_the_name_of_another(made: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(made, tmp_path)
    one, other = (Tokens(catalog.home).add(f"a {scope}", scope) for scope in ("label", "admin"))
    labels = [GivenLabel(key="pictures/00001", task="color", value="red")]
    with served(catalog.home) as service:
        with Client(service.url, one) as client:
            with pytest.raises(BadInput, match="must be 'a label', whose token this is"):
                client.give(labels, batch="one", annotator="bob")
            assert client.give(labels, batch="two", annotator="a label").requests == 1
        with Client(service.url, other) as client:
            assert client.give(labels, batch="three", annotator="bob").requests == 1
    with catalog.read() as now:
        given = now.labels.by_annotator("color").to_pylist()
        annotators = [row["annotator"] for row in given if row["source"] == "human"]
        log = now.log().slice(0, 2).to_pylist()
    assert annotators == ["a label", "bob"]
    assert [row["author"] for row in log] == ["a admin", "a label"]
    with pytest.raises(BadInput, match="one line of text"):
        Tokens(catalog.home).add("a\nb", "read")


def test_images_are_served_during_a_commit(made: Catalog, reader: Client) -> None:
    image = reader.samples(limit=1)[0].image
    with made.commit(author="ada", message="while images are served") as change:
        change.add_quarantine([("x", "y")], dataset="d")
        assert reader._http.get(image).status_code == 200


def test_metrics_for_prometheus(http: Http, secrets: dict[str, str], reader: Client) -> None:
    http.get("/health")
    http.get(reader.samples(limit=1)[0].image)
    text = http.get("/metrics", headers=bearer(secrets["admin"])).text
    assert 'amber_requests_total{method="GET",route="/health",status="200"}' in text
    assert 'amber_requests_total{method="GET",route="/images/{word}",status="200"}' in text
    assert "amber_request_seconds_bucket" in text


def test_pages_have_no_script_and_no_external_resource(http: Http, secrets: dict[str, str]) -> None:
    page = http.get("/docs", headers=bearer(secrets["read"]))
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "/api/samples" in page.text
    assert not {"<script", "http://", "https://"} & set(page.text.split())


def test_the_service_matches_its_openapi_document(http: Http, service: Served, secrets: dict[str, str]) -> None:
    examples = settings(
        max_examples=500 if "AMBER_SOAK" in os.environ else 20, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    operations = list(schemathesis.openapi.from_dict(service.app.openapi()).get_all_operations())
    assert len(operations) >= 13
    for operation in operations:

        @examples
        @given(case=operation.ok().as_strategy())
        def holds(case: schemathesis.Case) -> None:
            check(http, secrets, case)

        holds()


def check(http: Http, secrets: dict[str, str], case: schemathesis.Case) -> None:
    named = {
        "/metrics": "admin", "/api/assignments": "admin", "/api/settlements": "admin", "/api/policy": "owner",
        "/api/policy/check": "read",
    }  # fmt: skip
    leads = case.path.endswith(("/revert", "/releases", "/back")) and case.method == "POST"
    scope = named.get(case.path, "admin" if leads else "label" if case.method == "POST" else "read")
    request = case.as_transport_kwargs(base_url=str(http.base_url))
    request["headers"] = {**dict(request.get("headers") or {}), **bearer(secrets[scope])}
    answer = requests.request(**request, timeout=60)
    assert answer.status_code < 500, answer.text
    case.validate_response(answer)
