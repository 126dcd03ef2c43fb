"""Server-sent events: what a page shows while something goes on, sent again whenever it changes.

A stream is a coroutine that looks every second, so none holds a thread; those that show the same share one look. It
ends when the client goes, when the service stops (the protocol closes its connection), and after `SECONDS`, so that an
ended token shows nothing for longer: the browser connects again by itself.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final

from anyio import to_thread
from fastapi import HTTPException
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

__all__ = ["PREFIX", "Event", "Streams"]

PREFIX: Final = "/events/"
"""What the paths of streams begin with: they take no turn of `Capacity`."""

MOST: Final = 32
"""Streams at the same time; more are refused."""

HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""No cache and no proxy may hold events back."""

EVERY: Final = 1.0
SECONDS: Final = 600.0
QUIET: Final = 15.0
"""Seconds between two looks, of a stream at most, and without a word at most."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What is shown now, and whether it goes on; the last event of a stream is named `ended`."""

    text: str
    goes_on: bool = True


Look = Callable[[], Event]
"""Gives what is to be shown now; called in a thread."""


class Streams:
    """The streams of a service."""

    def __init__(self, most: int = MOST, *, every: float = EVERY, seconds: float = SECONDS) -> None:
        self._most, self._every, self._seconds = most, every, seconds
        self.running = 0
        self._looks: dict[Hashable, tuple[float, asyncio.Task[Event]]] = {}

    def stream(self, key: Hashable, look: Look) -> StreamingResponse:
        """A response with the event `live` whenever what `look` gives changes; equal `key`s share a look.

        503 where `most` streams run.
        """
        if self.running >= self._most:
            raise HTTPException(
                503, f"service: {self._most} streams run already; close a page, or load this one again later",
                {"Retry-After": "10"},
            )  # fmt: skip
        return _Counted(self, self._events(key, look))

    async def _events(self, key: Hashable, look: Look) -> AsyncIterator[str]:
        end, sent, before = time.monotonic() + self._seconds, 0.0, None
        while time.monotonic() < end:
            event = await self._shared(key, look)
            if event.text != before:
                yield _message("live", event.text)
                before, sent = event.text, time.monotonic()
            elif time.monotonic() - sent > QUIET:
                yield ": nothing new\n\n"
                sent = time.monotonic()
            if not event.goes_on:
                yield _message("ended", "")
                return
            await asyncio.sleep(self._every)

    async def _shared(self, key: Hashable, look: Look) -> Event:
        """One look for all streams of `key`, if the last one is not younger than the time between two."""
        at, task = self._looks.get(key, (0.0, None))
        if task is None or time.monotonic() - at >= 0.9 * self._every:
            task = asyncio.create_task(to_thread.run_sync(look))
            self._looks[key] = (time.monotonic(), task)
            for old in [name for name, (then, _) in self._looks.items() if time.monotonic() - then > 10 * self._every]:
                del self._looks[old]
        return await asyncio.shield(task)


class _Counted(StreamingResponse):
    """A stream that counts while it runs."""

    def __init__(self, streams: Streams, events: AsyncIterator[str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=HEADERS)
        self._streams = streams
        streams.running += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.running -= 1


def _message(name: str, text: str) -> str:
    lines = "".join(f"data: {line}\n" for line in text.splitlines() or [""])
    return f"event: {name}\n{lines}\n"
