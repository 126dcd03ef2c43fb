"""The service: who may do what, images in ranges and sizes, and JSON that is what the OpenAPI document says."""

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
from amber.service.images import Pictures
from amber.service.middleware import BODY
from amber.service.models import AskedFor, GivenLabel
from amber.service.signed_urls import Signer
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
        (method.upper(), path.replace("{key}", "k").replace("{task}", "color").replace("{run}", "r"))
        for path, ms in paths
        for method in ms
    ]
    return [*(route for route in found if route[1] != "/health"), ("GET", "/openapi.json"), ("GET", "/docs")]


# Who may do what


def test_without_a_token_nothing_but_health(http: Http, service: Served) -> None:
    assert http.get("/health").json() == {"status": "ok"}
    assert len(routes(service)) >= 14
    for method, path in routes(service):
        for headers in ({}, bearer(""), bearer("amber_guess"), {"Authorization": "Basic !"}, {"Authorization": "x"}):
            assert http.request(method, path, headers=headers, json={}).status_code == 401, (method, path, headers)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_of_one_scope_fails_on_another(
    http: Http, service: Served, secrets: dict[str, str], scope: str
) -> None:
    wants = {"POST": ("label",), "GET": ("read",)}
    more = {"/metrics": ("admin",), "/api/labels": ("label", "admin"), "/api/why/k": ("read", "label"),
            "/api/picked/shown": ("read", "label")}  # fmt: skip
    for method, path in routes(service):
        status = http.request(method, path, headers=bearer(secrets[scope]), json={}).status_code
        assert (status == 403) == (scope not in more.get(path, wants[method])), (method, path, status)


def test_tokens_are_kept_hashed_end_and_expire(made: Catalog, http: Http) -> None:
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
    with pytest.raises(BadInput, match="taken"):
        tokens.add("gone by", "read")
    with pytest.raises(NotFound):
        tokens.remove("nosuch")


# Images


@pytest.fixture
def image(reader: Client) -> str:
    return reader.samples(limit=1)[0].image


def test_an_image_comes_whole_in_ranges_and_not_again(http: Http, made: Catalog, image: str) -> None:
    with made.read() as now:
        data = Path(now.samples()["location"][0].as_py()).read_bytes()
    whole = http.get(image)
    assert (whole.content, whole.headers["content-type"]) == (data, "image/jpeg")
    assert whole.headers["access-control-allow-origin"] == "*"
    cases = {"bytes=0-9": data[:10], "bytes=5-": data[5:], "bytes=-7": data[-7:], "bytes=0-99999999": data}
    for asked, expected in cases.items():
        part = http.get(image, headers={"Range": asked})
        assert (part.status_code, part.content) == (206, expected)
        assert part.headers["content-range"].endswith(f"/{len(data)}")
    for asked in ("bytes=9-5", "bytes=99999999-", "bytes=-0", "bytes=-", "pages=1-2", "bytes=a-b"):
        assert http.get(image, headers={"Range": asked}).status_code == 416
    assert http.get(image, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    assert http.get(image, headers={"Range": "bytes=0-9", "If-Range": '"old"'}).content == data
    assert http.head(image).headers["content-length"] == str(len(data))


def test_thumbnails_have_their_sizes(http: Http, image: str) -> None:
    small = http.get(image, params={"size": 64})
    assert (small.status_code, small.headers["content-type"]) == (200, "image/jpeg")
    assert small.headers["etag"] != http.get(image).headers["etag"]
    for size in ("63", "-64", "064", "64.0", "x"):
        assert http.get(image, params={"size": size}).status_code == 422
    assert http.post(image).status_code == 405


def test_signed_urls_expire_and_cannot_be_altered(made: Catalog, http: Http, image: str) -> None:
    word = image.removeprefix("/images/")
    signer = Signer.of(made.home)
    location = signer.read(word).location
    late = signer.sign(location, seconds=-1)
    other = Signer(b"another").sign(location, seconds=60)
    body, mark = word.split(".")
    forged = base64.urlsafe_b64encode(json.dumps(["/etc/passwd", 2**40]).encode()).rstrip(b"=").decode()
    for wrong in (late, other, f"{forged}.{mark}", f"{body}.", body, f".{mark}", f"{body}.{mark}x", "%00", "a" * 5_000):
        assert http.get(f"/images/{wrong}").status_code == 403, wrong
    for place in range(0, len(word), 7):
        turned = word[:place] + ("A" if word[place] != "A" else "B") + word[place + 1 :]
        assert http.get(f"/images/{turned}").status_code == 403


@pytest.mark.parametrize(
    "path",
    ["/images/../service.key", "/images/..%2f..%2fetc%2fpasswd", "/images//etc/passwd", "/api/samples/../../etc/passwd",
     "/images/%2e%2e/%2e%2e/etc/passwd", "/../service.json", "/api/samples/..%2f..%2f..%2fetc%2fpasswd"],
)  # fmt: skip
def test_paths_lead_nowhere_else(http: Http, secrets: dict[str, str], path: str) -> None:
    answer = http.get(path, headers=bearer(secrets["read"]))
    assert answer.status_code in (403, 404)
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:1/x.jpg", "https://localhost/x", "ftp://h/x", "file:///etc/passwd",
     "simplecache::http://h/x", "/etc/passwd", "tar://x::http://h/y.tar", "memory://x", "/dev/zero", "/nosuch"],
)  # fmt: skip
def test_the_service_calls_on_nobody_and_serves_images_alone(made: Catalog, http: Http, location: str) -> None:
    answer = http.get(f"/images/{Signer.of(made.home).sign(location, seconds=60)}")
    assert (answer.status_code, "root:" in answer.text) == (404, False)


def test_the_cache_lets_go_of_the_oldest(made: Catalog) -> None:
    with made.read() as now:
        locations = now.samples()["location"].to_pylist()
    size = len(Pictures().load(locations[0], 0).data)
    pictures = Pictures(room=3 * size)
    for location in locations[:6]:
        pictures.load(location, 0)
    assert pictures.kept(locations[0], 0) is None
    assert pictures.kept(locations[5], 0) is not None


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
        one = http.get("/api/samples", params={"after": text}, headers=bearer(secrets["read"]))
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


# What it says and takes


def test_the_client_reads_what_the_catalog_knows(reader: Client, made: Catalog) -> None:
    with made.read() as now:
        keys, colors = now.samples()["key"].to_pylist(), now.labels("color")
    assert [row.key for row in reader.samples(limit=3)] == keys[:3]
    assert [row.key for row in reader.samples(limit=2, after=keys[4])] == keys[5:7]
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


def test_labels_are_asked_for_and_given_once(made: Catalog, tmp_path: Path) -> None:
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
        assert {
            row["annotator"] for row in now.labels.by_annotator("color").to_pylist() if row["source"] == "human"
        } == {"ann"}


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
        said = [row["annotator"] for row in now.labels.by_annotator("color").to_pylist() if row["source"] == "human"]
        log = now.log().slice(0, 2).to_pylist()
    assert said == ["a label", "bob"]
    assert [row["author"] for row in log] == ["a admin", "a label"]
    with pytest.raises(BadInput, match="no line of text"):
        Tokens(catalog.home).add("a\nb", "read")


def test_the_command_line_goes_on_beside_it(made: Catalog, reader: Client) -> None:
    image = reader.samples(limit=1)[0].image
    with made.commit(author="ada", message="while images are served") as change:
        change.add_quarantine([("x", "y")], dataset="d")
        assert reader._http.get(image).status_code == 200


def test_figures_for_prometheus(http: Http, secrets: dict[str, str], image: str) -> None:
    http.get("/health")
    http.get(image)
    text = http.get("/metrics", headers=bearer(secrets["admin"])).text
    assert 'amber_requests_total{method="GET",route="/health",status="200"}' in text
    assert 'amber_requests_total{method="GET",route="/images/{word}",status="200"}' in text
    assert "amber_request_seconds_bucket" in text


def test_pages_for_people_have_no_script_and_nothing_from_elsewhere(http: Http, secrets: dict[str, str]) -> None:
    page = http.get("/docs", headers=bearer(secrets["read"]))
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "/api/samples" in page.text
    assert not {"<script", "http://", "https://"} & set(page.text.split())


def test_the_service_is_what_its_document_says(http: Http, service: Served, secrets: dict[str, str]) -> None:
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
    scope = "admin" if case.path == "/metrics" else "label" if case.method == "POST" else "read"
    request = case.as_transport_kwargs(base_url=str(http.base_url))
    request["headers"] = {**dict(request.get("headers") or {}), **bearer(secrets[scope])}
    answer = requests.request(**request, timeout=60)
    assert answer.status_code < 500, answer.text
    case.validate_response(answer)
