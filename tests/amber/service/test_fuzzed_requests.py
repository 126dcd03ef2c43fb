"""An attack on the service: 360 requests of odd methods, lengths, encodings, texts and numbers, on every route, many at
once.

Each is answered in time with less than 500, or with 503 for capacity; nothing reaches standard error but the log, and
no commit lands but those that were answered with success. Run by `make soak`.
"""

import json
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

import httpx
import pytest
from support.homes import make_home
from support.served import free_port

from amber.service.app import make_app
from amber.service.tokens import SCOPES, Tokens
from curation.catalog.catalog import Catalog

pytestmark = pytest.mark.soak

AT_ONCE, SECONDS, GROWTH = 24, 60.0, 400.0
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "PROPFIND", "X" * 300]

TEXTS = [
    "", " ", "'", '"', "\\", "%", "%00", "..", "../../etc/passwd", "a" * 4_000, "a\r\nX: y", "\0", "\x7f", "\ufeff",
    "\u202e\u0000", "\U0001f600" * 200, "e\u0301", "null", "NaN", "-0", "color", "night", "open", "1; DROP TABLE x",
    "' OR 1=1 --", "${jndi:ldap://x}", "{{7*7}}", "<script>", "pictures/00001", "\u0660\u0661", "1_000", "0x10", "1e3",
    quote("a/b", safe=""), "AAAA.AAAA", "eyJhIjoxfQ.", "." * 500, "true", "[]", "\u2028",
]  # fmt: skip
NUMBERS = [
    "0", "-1", "1", "100", "1000", "1001", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808",
    "-9223372036854775809", "1e999", "-1e999", "NaN", "Infinity", "1.5", "9" * 400, "9" * 5_000, "1e-400", "0.1e1",
]  # fmt: skip
BODIES: list[bytes] = [
    b"", b" ", b"{", b"[", b"null", b"true", b"0", b'"a"', b"[]", b"{}", b"\xff\xfe", b"\0" * 1_000, b"[" * 50_000,
    b'{"a":' * 20_000, b"a=1&b=2", b"\xef\xbb\xbf{}", b'{"a": 1, "a": 2}', b"9" * 100_000, b'{"\\ud800": 1}', b"--x",
    '{"é": 1}'.encode("utf-16"), b" " * (1 << 20), b" " * ((1 << 20) + 1),
]  # fmt: skip
HEADERS: list[dict[str, bytes]] = [
    {}, {"Accept": b"*/*;q=\xff"}, {"Range": b"bytes=9999999999999999999-"}, {"Range": b"bytes=-0"},
    {"Content-Encoding": b"gzip"}, {"Transfer-Encoding": b"chunked, gzip"}, {"Expect": b"100-continue"},
    {"Host": b"evil.test"}, {"Host": b""}, {"X-Forwarded-For": b"1" * 9_000}, {"Cookie": b"a=" + b"\xf0" * 500},
    {"If-None-Match": b"\xff" * 50}, {"Upgrade": b"websocket", "Connection": b"Upgrade"}, {"Accept-Encoding": b"br"},
    {"Content-Type": b"application/xml"}, {"Content-Type": b"multipart/form-data"}, {"Content-Type": b"a" * 2_000},
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One raw request."""

    method: str
    target: bytes
    headers: dict[str, bytes]
    body: bytes

    def wire(self) -> bytes:
        length = {} if "Transfer-Encoding" in self.headers else {"Content-Length": str(len(self.body)).encode()}
        headers = {"Host": b"127.0.0.1", "Connection": b"close", **length, **self.headers}
        lines = [f"{self.method} ".encode() + self.target + b" HTTP/1.1"]
        lines += [name.encode() + b": " + value for name, value in headers.items()]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("fuzzed"), samples=40)


@pytest.fixture(scope="module")
def secrets(catalog: Catalog) -> dict[str, str]:
    return {scope: Tokens(catalog.home).add(scope, scope) for scope in SCOPES}


@pytest.fixture(scope="module")
def server(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int, Path]]:
    """Port, process and standard error of a service."""
    port, log = free_port(), tmp_path_factory.mktemp("log") / "stderr"
    words = [sys.executable, "-m", "amber", "serve", "--port", str(port), "--home", str(catalog.home)]
    with log.open("wb") as file, subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=file) as process:
        try:
            while True:
                try:
                    httpx.get(f"http://127.0.0.1:{port}/health")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield port, process.pid, log
        finally:
            process.terminate()


def routes(catalog: Catalog) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every route."""
    paths = make_app(catalog.home).openapi()["paths"]
    found = [(method.upper(), path, facts) for path, methods in paths.items() for method, facts in methods.items()]
    more = [
        "/openapi.json",
        "/docs",
        "/images/x",
        "/images/",
        "/",
        "//",
        "/api",
        "/api/",
        "/api/nosuch",
        "*",
        "/%2e%2e",
    ]
    return found + [("GET", path, {}) for path in more]


def shots(catalog: Catalog, secrets: dict[str, str], count: int, seed: int) -> list[Shot]:
    """Random requests: of every route, with odd values for its parameters and its body."""
    pick, found = random.Random(seed), routes(catalog)
    return [shot(pick, secrets, *found[number % len(found)]) for number in range(count)]


def shot(pick: random.Random, secrets: dict[str, str], method: str, path: str, facts: dict[str, Any]) -> Shot:
    words = path.split("/")
    target = "/".join(odd(pick) if word.startswith("{") else word for word in words)
    names = [part["name"] for part in facts.get("parameters", []) if part["in"] == "query"] + ["x"]
    asked = "&".join(f"{name}={odd(pick)}" for name in names if pick.random() < 0.6)
    headers = dict(pick.choice(HEADERS)) if pick.random() < 0.3 else {}
    if pick.random() < 0.95:
        admins = path in ("/metrics", "/api/assignments", "/api/settlements")
        scope = "admin" if admins else "owner" if "/policy" in path else "label" if method == "POST" else "read"
        headers["Authorization"] = f"Bearer {secrets[scope]}".encode()
    body = b""
    if method == "POST" or pick.random() < 0.1:
        headers.setdefault("Content-Type", b"application/json")
        body = structured(pick, path) if pick.random() < 0.7 else pick.choice(BODIES)
    method = pick.choice(METHODS) if pick.random() < 0.15 else method
    return Shot(method=method, target=f"{target}{'?' if asked else ''}{asked}".encode(), headers=headers, body=body)


def odd(pick: random.Random) -> str:
    """An odd value in a URL, quoted, raw, or of bytes that are no UTF-8."""
    value = pick.choice(TEXTS if pick.random() < 0.6 else NUMBERS)
    form = pick.random()
    if form < 0.1:
        return quote_from_bytes(bytes(pick.randrange(256) for _ in range(9)))
    return quote(value, safe="") if form < 0.9 else "".join(letter for letter in value if letter.isalnum()) or "x"


FIELDS = {
    "/api/labels": ["annotator", "batch", "labels"],
    "/api/requests": ["budget", "random_share", "seed", "batch"],
    "/api/picked/requests": ["keys", "batch", "preview", "tasks", "reason"],
    "/api/picked/tags": ["keys", "batch", "preview", "tag", "on"],
    "/api/picked/doubts": ["keys", "batch", "preview", "task", "state"],
    "/api/picked/shown": ["keys", "run", "against", "commit"],
    "/api/policy": ["text", "read", "batch"],
    "/api/policy/check": ["text"],
    "/api/requests/withdrawn": ["requests", "batch"],
    "/api/requests/raised": ["requests", "batch"],
    "/api/assignments": ["task", "person", "limit", "batch"],
    "/api/settlements": ["task", "key", "value", "batch"],
    "/api/slices": ["name", "predicate", "task", "rare", "replace", "batch"],
    "/api/sign-offs": ["owner", "plan", "before", "policy", "batch"],
    "/api/gates": ["run", "against", "rules"],
    "/api/releases": ["run", "rules", "against", "notes"],
    "/api/releases/signed": ["run", "owner", "rules", "against"],
    "/api/releases/back": ["deployed"],
    "/api/commits/{commit}/revert": ["batch", "preview"],
}


def structured(pick: random.Random, path: str) -> bytes:
    """A body with the fields of a route, and values that are nearly right or odd."""
    fields = {name: value(pick, name) for name in FIELDS.get(path, ["a"]) if pick.random() < 0.9}
    parts = [f"{json.dumps(name)}: {text}" for name, text in fields.items()]
    return ("{" + ", ".join(parts) + "}").encode("utf-8", "surrogatepass")


def value(pick: random.Random, name: str) -> str:
    if name == "labels" and pick.random() < 0.8:
        each = ["key", "task", "value", "state", "labelled_at"]
        rows = [", ".join(f'"{part}": {value(pick, part)}' for part in each if pick.random() < 0.8) for _ in range(3)]
        return "[" + ", ".join("{" + row + "}" for row in rows) + "]"
    if name in ("keys", "tasks") and pick.random() < 0.8:
        return json.dumps([pick.choice(["pictures/00001", "color", "nosuch", pick.choice(TEXTS)]) for _ in range(3)])
    right = {"key": "pictures/00001", "task": "speed", "plan": "0" * 32, "before": "0" * 32, "policy": "0" * 32,
             "batch": "b", "owner": "ada", "labelled_at": "9999-12-31T23:59:59+00:00"}  # fmt: skip
    if name in right and pick.random() < 0.6:
        return json.dumps(right[name])
    return json.dumps(pick.choice(TEXTS)) if pick.random() < 0.5 else pick.choice([*NUMBERS, "null", "{}", "[[[]]]"])


def fire(port: int, each: Shot) -> tuple[int, str, float]:
    """Status (0 for a closed connection), body and seconds."""
    began, data = time.monotonic(), b""
    try:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=SECONDS)) as client:
            client.sendall(each.wire())
            while part := client.recv(65_536):
                data += part
    except (ConnectionError, TimeoutError):
        pass
    head, _, body = data.partition(b"\r\n\r\n")
    status = int(head[9:12]) if head.startswith(b"HTTP/1.1 ") else 0
    return status, body.decode(errors="replace"), time.monotonic() - began


def peak(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fuzzed_requests_are_answered(
    server: tuple[int, int, Path], catalog: Catalog, secrets: dict[str, str], seed: int
) -> None:
    port, pid, log = server
    with catalog.read() as now:
        before = now.commit
    held, fired = peak(pid), shots(catalog, secrets, 120, seed)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda each: fire(port, each), fired))
    faults = [
        f"{status} {seconds:.0f} s {each.wire()[:300]!r} {body[:200]}"
        for each, (status, body, seconds) in zip(fired, answers, strict=True)
        if status == 0 or (status >= 500 and status != 503) or seconds > SECONDS or "Traceback" in body
    ]
    assert faults == []
    assert httpx.get(f"http://127.0.0.1:{port}/health").json() == {"status": "ok"}
    assert "Traceback" not in log.read_text(errors="replace")
    assert peak(pid) - held < GROWTH
    done = sum(status == 200 and each.method == "POST" for each, (status, *_) in zip(fired, answers, strict=True))
    with catalog.read() as now:
        assert now.commit - before <= done
    statuses = Counter(status for status, *_ in answers)
    assert len(statuses) > 4, statuses
