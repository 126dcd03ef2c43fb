"""Limits of the service: one client must not take it away from the others. Each refusal is one line."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest
from support.homes import make_home
from support.served import Served, served

from amber.service.connections import HEADER_BYTES, URL_BYTES
from amber.service.metrics import Metrics
from amber.service.middleware import Capacity, Refused, Watch
from amber.service.tokens import SCOPES, Tokens
from curation.catalog.catalog import Catalog


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("limits"), samples=20)


@pytest.fixture(scope="module")
def secrets(made: Catalog) -> dict[str, str]:
    return {scope: Tokens(made.home).add(scope, scope) for scope in SCOPES}


@pytest.fixture(scope="module")
def service(made: Catalog, secrets: dict[str, str]) -> Iterator[Served]:
    with served(made.home, connections=80, header_seconds=0.5) as running:
        yield running


def exchange(service: Served, *parts: bytes, pause: float = 0.0) -> bytes:
    """What the service sends to a client that sends `parts`, until it closes the connection."""
    with closing(connected(service)) as client:
        for part in parts:
            try:
                client.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        return received(client)


def connected(service: Served) -> socket.socket:
    host, _, port = service.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def received(client: socket.socket) -> bytes:
    data = b""
    try:
        while part := client.recv(65_536):
            data += part
    except ConnectionResetError:
        pass
    return data


def metrics(service: Served, secrets: dict[str, str]) -> str:
    return httpx.get(f"{service.url}/metrics", headers={"Authorization": f"Bearer {secrets['admin']}"}).text


HOST = b"Host: 127.0.0.1\r\n"
LONG = {
    "a long URL": (b"GET /health?" + b"a" * URL_BYTES + b" HTTP/1.1\r\n" + HOST + b"\r\n", b"414", b"URL: must"),
    "a URL in parts": (b"GET /" + b"a/" * URL_BYTES + b" HTTP/1.1\r\n" + HOST + b"\r\n", b"414", b"URL: must"),
    "one long header": (
        b"GET /health HTTP/1.1\r\n" + HOST + b"A: " + b"a" * HEADER_BYTES + b"\r\n\r\n", b"431", b"headers: must"
    ),
    "many headers": (
        b"GET /health HTTP/1.1\r\n" + HOST + b"A: b\r\n" * HEADER_BYTES + b"\r\n", b"431", b"headers: must"
    ),
    "headers without end": (b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * HEADER_BYTES, b"431", b"headers: must"),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "status", "line"), LONG.values(), ids=LONG)
def test_urls_and_headers_have_a_length(service: Served, request_: bytes, status: bytes, line: bytes) -> None:
    answer = exchange(service, request_)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert line in answer
    assert b"\n" not in answer.partition(b"\r\n\r\n")[2]


SLOW = {
    "nothing": [],
    "half a line": [b"GET /hea"],
    "headers one by one": [b"GET /health HTTP/1.1\r\n", *[b"A: b\r\n"] * 9],
    "a second request": [b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n", b"GET /he"],
}


@pytest.mark.parametrize("parts", SLOW.values(), ids=SLOW)
def test_slow_headers_end_the_connection(service: Served, parts: list[bytes]) -> None:
    started = time.monotonic()
    answer = exchange(service, *parts, pause=0.1)
    assert answer.split(b"HTTP/1.1 ")[-1].startswith(b"408")
    assert time.monotonic() - started < 5


def test_a_slow_body_ends_its_request() -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        await receive()  # type: ignore[operator]
        await receive()  # type: ignore[operator]

    async def never_ends() -> dict[str, object]:
        if not sent_first:
            sent_first.append(True)
            return {"type": "http.request", "body": b"a", "more_body": True}
        await asyncio.sleep(60)
        raise AssertionError

    async def note(message: dict[str, object]) -> None:
        answers.append(message)

    sent_first: list[bool] = []
    answers: list[dict[str, object]] = []
    watch = Watch(app, Metrics(), body_seconds=0.1)
    asyncio.run(watch({"type": "http", "method": "POST", "headers": []}, never_ends, note))
    assert answers[0]["status"] == 408


def test_connections_are_limited(service: Served, secrets: dict[str, str]) -> None:
    """Of 120 idle connections the last are refused in one line; once they end, there is room again."""
    clients = [connected(service) for _ in range(120)]
    refused = received(clients[-1])
    for client in clients:
        client.close()
    assert refused.startswith(b"HTTP/1.1 503")
    assert refused.endswith(b"service: too many connections; try again")
    time.sleep(0.2)
    text = metrics(service, secrets)
    assert 'amber_refused_total{limit="connections"}' in text
    assert "amber_connections 1.0" in text


def test_costly_requests_wait_or_are_refused() -> None:
    """Of 20 requests at once 2 run, 3 wait, and 15 get 503."""
    most, running = 0, 0

    async def app(scope: object, receive: object, send: object) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1

    async def ask_all() -> list[object]:
        capacity = Capacity(app, Metrics(), running=2, waiting=3)
        scope = {"type": "http", "path": "/api/coverage"}
        return await asyncio.gather(*(capacity(scope, None, None) for _ in range(20)), return_exceptions=True)

    refused = [error for error in asyncio.run(ask_all()) if isinstance(error, Refused)]
    assert (most, len(refused), {error.status for error in refused}) == (2, 15, {503})


def test_many_clients_leave_room_for_others(service: Served, secrets: dict[str, str]) -> None:
    """All are answered, with 200 or with 503 in one line, and the health check does not wait for them."""
    headers = {"Authorization": f"Bearer {secrets['read']}"}
    with ThreadPoolExecutor(64) as pool, httpx.Client(base_url=service.url, timeout=60) as client:
        answers = [pool.submit(client.get, "/api/coverage", headers=headers) for _ in range(64)]
        assert httpx.get(f"{service.url}/health", timeout=60).status_code == 200
        assert not all(answer.done() for answer in answers)
        assert {answer.result().status_code for answer in answers} <= {200, 503}


WHOLE = '{"batch": "b%s", "labels": [{"key": "pictures/00001", "task": "%s", "value": %s%s}]}'
BOX = '[{"class": "light", "x": %s, "y": 1, "w": 1, "h": 1}]'
ODD = {
    "the last moment": WHOLE % (1, "color", '"red"', ', "labelled_at": "9999-12-31T23:59:59-23:59"'),
    "the first moment": WHOLE % (2, "color", '"red"', ', "labelled_at": "0001-01-01T00:00:00+23:59"'),
    "an integer of 400 digits": WHOLE % (3, "speed", "9" * 400, ""),
    "an integer of 5,000 digits": WHOLE % (4, "speed", "9" * 5_000, ""),
    "a box of 400 digits": WHOLE % (5, "things", BOX % ("9" * 400), ""),
    "NaN": WHOLE % (6, "speed", "NaN", ""),
    "infinity": WHOLE % (7, "speed", "1e999", ""),
    "NaN in a box": WHOLE % (8, "things", BOX % "NaN", ""),
    "a lone surrogate as a class": WHOLE % (9, "color", r'"\ud800"', ""),
    "a lone surrogate as a key": r'{"batch": "b", "labels": [{"key": "\ud800", "task": "color"}]}',
    "a lone surrogate as a field": r'{"batch": "b", "\ud800": 1, "labels": []}',
    "a lone surrogate as a batch": r'{"batch": "\udfff", "labels": [{"key": "k", "task": "color"}]}',
    "a lone surrogate in an attribute": WHOLE
    % (10, "things", r'[{"class": "light", "x": 1, "y": 1, "w": 1, "h": 1, "attributes": {"\ud800": 1}}]', ""),
    "a class that is an object": WHOLE % (11, "color", '{"a": [1]}', ""),
    "a list within lists": WHOLE % (12, "things", "[" * 500 + "]" * 500, ""),
}  # fmt: skip


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_odd_values_are_refused_in_one_line(service: Served, secrets: dict[str, str], body: str) -> None:
    headers = {"Authorization": f"Bearer {secrets['label']}", "Content-Type": "application/json"}
    answer = httpx.post(f"{service.url}/api/labels", content=body, headers=headers, timeout=60)
    assert 400 <= answer.status_code < 500, answer.text
    assert "\n" not in answer.text
    assert json.loads(answer.text)["detail"]


@pytest.mark.parametrize("length", [b"9" * 5_000, b"-1", b"1e3", b"99999999999999999999999"])
def test_odd_lengths_are_refused(service: Served, length: bytes) -> None:
    head = b"POST /api/labels HTTP/1.1\r\n" + HOST + b"Content-Length: " + length + b"\r\nConnection: close\r\n\r\n"
    assert exchange(service, head)[9:12] in (b"400", b"413")
