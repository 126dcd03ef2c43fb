"""ASGI middleware around every request: limits, the log, metrics, and the headers that keep pages safe."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from amber.service.metrics import Metrics

__all__ = ["BODY", "Capacity", "Refused", "Watch"]

BODY: Final = 1 << 20
"""Bytes of a request's body at most."""

BODY_SECONDS: Final = 30.0
"""Seconds in which a body must have arrived."""

LENGTH_DIGITS: Final = 12
"""Digits of a Content-Length at most: int() refuses thousands of them."""

FREE: Final = ("/images/", "/health", "/metrics", "/static/", "/events/")
"""What the paths begin with that need no turn: they do not read the catalog, or go on for as long as somebody looks."""

RUNNING: Final = 4
"""Requests to the JSON API and for pages that run at the same time; the others wait, so that
each of the first ends soon."""

WAITING: Final = 32
"""Requests that wait for one of `RUNNING` to end; more get 503."""

LOG: Final = logging.getLogger("amber.service")

Message = Mapping[str, Any]

SAFE: Final = [
    (b"x-content-type-options", b"nosniff"), (b"x-frame-options", b"DENY"), (b"referrer-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
]  # fmt: skip


class Refused(Exception):
    """A request that breaks a limit, with the status and the line to answer it with."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail = status, reason, detail


class Watch:
    """Limits bodies, writes one line of JSON per request to the log, counts, and adds the `SAFE` headers."""

    def __init__(self, app: Any, metrics: Metrics, body_seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._metrics = metrics
        self._body_seconds = body_seconds

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, body = time.perf_counter(), 500, _Body(receive, self._body_seconds)

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                said = {name for name, _ in message["headers"]}
                message = {**message, "headers": [*message["headers"], *(pair for pair in SAFE if pair[0] not in said)]}
            await send(message)

        self._metrics.running.inc()
        try:
            _check_length(dict(scope["headers"]).get(b"content-length", b"0"))
            await self._app(scope, body.receive, body.unless_refused(noted))
            body.raise_if_refused()
        except Refused as refusal:
            self._metrics.refused.labels(refusal.reason).inc()
            await _answer(refusal, noted)
        finally:
            self._metrics.running.dec()
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.requests.labels(route, scope["method"], str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if LOG.isEnabledFor(logging.INFO):
            at, token = datetime.now(UTC).isoformat(timespec="milliseconds"), scope.get("state", {}).get("token", "")
            line = {"at": at, "route": route, "method": scope["method"], "status": status,
                    "ms": round(1000 * seconds, 2), "token": token}  # fmt: skip
            LOG.info(json.dumps(line))


class _Body:
    """Receives the body of one request and refuses it when it is too long or too slow.

    The application may turn the exception into an answer of its own, so that answer is held back.
    """

    def __init__(self, receive: Any, seconds: float) -> None:
        self._receive = receive
        self._seconds = seconds
        self._deadline: float | None = None
        self._ended = False
        self._size = 0
        self._refusal: Refused | None = None

    async def receive(self) -> Message:
        """The next message of the connection; Refused beyond the limits."""
        if self._ended:
            message: Message = await self._receive()
            return message
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self._refuse(408, "slow body", "body: did not arrive in time; send it again")
        self._size += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        if self._size > BODY:
            self._refuse(413, "long body", f"body: must be at most {BODY} bytes; send less")
        return message

    def unless_refused(self, send: Any) -> Any:
        """`send`, which does nothing once the body was refused."""

        async def sent(message: Message) -> None:
            if self._refusal is None:
                await send(message)

        return sent

    def raise_if_refused(self) -> None:
        """Raise the refusal that the application swallowed, if any."""
        if self._refusal is not None:
            raise self._refusal

    def _refuse(self, status: int, reason: str, detail: str) -> None:
        self._refusal = Refused(status, reason, detail)
        raise self._refusal


class Capacity:
    """Lets `RUNNING` requests run at the same time and `WAITING` wait; 503 to all others.

    Those of `FREE` do not wait.
    """

    def __init__(self, app: Any, metrics: Metrics, running: int = RUNNING, waiting: int = WAITING) -> None:
        self._app = app
        self._metrics = metrics
        self._slots = asyncio.Semaphore(running)
        self._most, self._waiting = waiting, 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"].startswith(FREE):
            await self._app(scope, receive, send)
            return
        async with self._slot():
            await self._app(scope, receive, send)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._slots.locked() and self._waiting >= self._most:
            raise Refused(503, "capacity", f"service: {self._waiting} requests wait already; try again in a second")
        self._waiting += 1
        self._metrics.waiting.set(self._waiting)
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
            self._metrics.waiting.set(self._waiting)
        try:
            yield
        finally:
            self._slots.release()


def _check_length(length: bytes) -> None:
    if not length.isdigit() or len(length) > LENGTH_DIGITS or int(length) > BODY:
        raise Refused(413, "long body", f"body: must be at most {BODY} bytes; send less")


async def _answer(refusal: Refused, send: Any) -> None:
    headers = [(b"content-type", b"application/json")]
    headers.append((b"retry-after", b"1") if refusal.status == 503 else (b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"detail": refusal.detail}).encode()})
