"""The HTTP protocol of `amber serve`: uvicorn's, with limits on what comes before a request reaches the app."""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from amber.service.metrics import Metrics
from amber.service.streams import PREFIX

__all__ = ["HEADER_BYTES", "URL_BYTES", "limited_protocol"]

URL_BYTES: Final = 8 << 10
"""Bytes of a URL at most: a signed URL of a long location is about 1 KB."""

HEADER_BYTES: Final = 32 << 10
"""Bytes of all header names and values of a request at most."""

HEADER_SECONDS: Final = 10.0
"""Seconds in which the headers of a request must have arrived, counted from the connection or from its first byte."""

CONNECTIONS: Final = 512
"""Connections at the same time."""


def limited_protocol(
    metrics: Metrics, *, connections: int = CONNECTIONS, header_seconds: float = HEADER_SECONDS
) -> type[asyncio.Protocol]:
    """A protocol for `uvicorn.run(http=...)`. A connection that breaks a limit gets one line, and is closed."""
    limits = {"metrics": metrics, "most": connections, "header_seconds": header_seconds}
    return type("ServedProtocol", (LimitedProtocol,), limits)


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with these limits; subclasses set `metrics`, `most` connections and `header_seconds`."""

    metrics: Metrics
    most = CONNECTIONS
    header_seconds = HEADER_SECONDS
    _timer: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.metrics.connections.set(len(self.connections))
        if len(self.connections) > self.most:
            self._refuse("503 Service Unavailable", "connections", "service: too many connections; try again")
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)
        self.metrics.connections.set(len(self.connections))

    def shutdown(self) -> None:
        """Finish the request that runs, when the service stops; a stream, which would go on, ends at once."""
        running = self.cycle
        if running is not None and not running.response_complete and running.scope["path"].startswith(PREFIX):
            self.transport.close()
            return
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    def on_message_begin(self) -> None:
        self._header_bytes = 0
        if self._timer is None:
            self._start_timer()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > URL_BYTES:
            self._refuse("414 URI Too Long", "url", f"URL: must be at most {URL_BYTES} bytes; shorten it")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEADER_BYTES:
            text = f"headers: must be at most {HEADER_BYTES} bytes; send less"
            self._refuse("431 Request Header Fields Too Large", "headers", text)
        else:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            super().on_message_complete()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.header_seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._refuse("408 Request Timeout", "slow headers", "headers: did not arrive in time; send them at once")

    def _refuse(self, status: str, limit: str, text: str) -> None:
        if self._refused:
            return
        self._refused = True
        self._stop_timer()
        self.metrics.refused.labels(limit).inc()
        head = f"HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {len(text)}\r\nconnection: close"
        self.transport.write(f"{head}\r\n\r\n{text}".encode())
        self.transport.close()
