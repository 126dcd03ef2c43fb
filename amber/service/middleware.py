"""What stands before every request: limits, log, figures, and who may do what."""

import base64
import json
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Depends, HTTPException, Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from amber.service.tokens import Scope, Token, Tokens

__all__ = ["BODY", "Figures", "Watch", "allowed"]

BODY: Final = 1 << 20
"""Bytes of a request's body at most."""

LOG: Final = logging.getLogger("amber.service")

Message = Mapping[str, Any]

SAFE: Final = [
    (b"x-content-type-options", b"nosniff"), (b"x-frame-options", b"DENY"), (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
]  # fmt: skip


class Figures:
    """What Prometheus is told."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["route", "method", "status"]
        self.requests = Counter("amber_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = Histogram("amber_request_seconds", "Time to answer.", ["route"], registry=self.registry)
        self.running = Gauge("amber_requests_running", "Requests being answered.", registry=self.registry)


class TooLarge(Exception):
    """A body went on beyond the limit."""


class Watch:
    """ASGI: refuses large bodies, writes a line of JSON a request, counts, adds the headers that keep pages safe."""

    def __init__(self, app: Any, figures: Figures) -> None:
        self.app = app
        self.figures = figures

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, read = time.perf_counter(), 500, 0

        async def counted() -> Message:
            nonlocal read
            message: Message = await receive()
            read += len(message.get("body", b""))
            if read > BODY:
                raise TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = 413 if read > BODY else message["status"]
                message = {**message, "status": status, "headers": [*message["headers"], *SAFE]}
            await send(message)

        self.figures.running.inc()
        try:
            length = dict(scope["headers"]).get(b"content-length", b"0")
            if not length.isdigit() or int(length) > BODY:
                raise TooLarge
            await self.app(scope, counted, noted)
        except TooLarge:
            text = json.dumps({"detail": f"the body is longer than {BODY} bytes; send less"}).encode()
            await noted({"type": "http.response.start", "status": 413,
                         "headers": [(b"content-type", b"application/json"), (b"connection", b"close")]})  # fmt: skip
            await send({"type": "http.response.body", "body": text})
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self.figures.running.dec()
        self.figures.requests.labels(route, scope["method"], str(status)).inc()
        self.figures.seconds.labels(route).observe(seconds)
        if LOG.isEnabledFor(logging.INFO):
            who = scope.get("state", {}).get("token", "")
            line = {
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "route": route,
                "method": scope["method"],
            }
            LOG.info(json.dumps({**line, "status": status, "ms": round(1000 * seconds, 2), "token": who}))


def allowed(tokens: Tokens, *scopes: Scope) -> Any:
    """What a route depends on: a token of one of these scopes, as Bearer, or as the password of Basic."""

    def check(request: Request) -> Token:
        token = tokens.holder(_secret(request.headers.get("authorization", "")))
        if token is None:
            asks = {"WWW-Authenticate": 'Basic realm="amber", charset="UTF-8"'}
            raise HTTPException(
                401, "no token, or one that has ended; `amber serve tokens add` makes one, send it as Bearer", asks
            )
        request.state.token = token.name
        if token.scope not in scopes:
            raise HTTPException(403, f"this needs a token of the scope {' or '.join(scopes)}; yours is {token.scope}")
        return token

    return Annotated[Token, Depends(check)]


def _secret(header: str) -> str:
    kind, _, rest = header.partition(" ")
    if kind.lower() == "bearer":
        return rest.strip()
    try:
        return base64.b64decode(rest, validate=True).decode().partition(":")[2] if kind.lower() == "basic" else ""
    except ValueError:
        return ""
