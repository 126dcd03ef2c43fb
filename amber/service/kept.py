"""Pages that many look at: made once, and shown again for a moment to whoever may see the same.

A page is kept for `FRESH` seconds, and while commits land in quick succession for `SHARE` times as long as it took to
make, `LONGEST` seconds at most, so that readers cost the same however many they are. Whoever changes something through
this service drops all of it before the answer is sent, so everybody sees their own change at once. What one reader has
for themselves (the words of their forms, their name) is never kept.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi import Request

from amber.service.pages.accounts import Account, NotSignedIn, looking
from amber.service.pages.done_lines import DONE
from amber.service.pages.rendering import Rendered
from curation.catalog.catalog import Catalog

__all__ = ["BY_SCOPE", "BY_TOKEN", "FRESH", "LONGEST", "Kept", "Turn", "shown", "stamp_of"]

FRESH: Final = 1.0
"""Seconds for which a page is shown again."""

SHARE: Final = 100.0
LONGEST: Final = 10.0
"""While commits land faster than that: how many times as long as it took to make it, and the seconds at most."""

TURN: Final = 1.0
"""Lists are made one after the other, so a commit waits for one of them; made side by side they are not ready sooner.
Seconds that a list waits for its turn: whoever has it may be waiting for something themselves."""

MOST: Final = 128
"""Pages that are kept: those made last."""

BY_SCOPE: Final = ("/tasks", "/slices", "/requests", "/runs", "/log")
"""Pages that are the same for all tokens of one scope, but for the words of `Rendered`."""

BY_TOKEN: Final = ("/", "/plans", "/people")
"""Pages that name what waits for one token."""

BELOW: Final = ("/tasks/", "/slices/", "/image/", "/compare", "/log/", "/plans/")
"""What the paths of other pages begin with; each token has its own. Pages of one run, which may be training, are made
each time."""

UNCHANGED: Final = ("/sign-in", "/sign-out")
"""Forms that change nothing that pages show."""

FOLDERS: Final = ("labeling", "plans", "packs", "releases", "runs", "waiting")
"""Folders of a workspace whose files pages read; a file that is replaced there changes the time of its folder."""

Facts = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """How the catalog and the folders of a workspace are: each differs after a change."""

    catalog: Facts
    folders: tuple[Facts, ...]


@dataclass(frozen=True, kw_only=True)
class _Page:
    """A page with the stamp of the catalog before it was made, when that began, the seconds that it took, and when the
    making of the one before it began."""

    rendered: Rendered
    route: Any
    stamp: Stamp
    began: float
    seconds: float
    before: float

    def shows(self, stamp: Stamp) -> bool:
        """Whether it may be shown in place of a page that is made for `stamp`."""
        return self.stamp.folders == stamp.folders and shown(
            self.began, self.before, self.seconds, same=self.stamp.catalog == stamp.catalog
        )


@dataclass(frozen=True, kw_only=True)
class _Making:
    """A page that is being made; its future holds None where there is nothing to keep."""

    future: "asyncio.Future[_Page | None]"
    stamp: Stamp


class Kept:
    """ASGI middleware: answers with a kept page where there is one. Of those who ask for a page at the same time, the
    first makes it and the others wait for it. `stamp` tells how the workspace is."""

    def __init__(self, app: Any, stamp: Callable[[], Stamp]) -> None:
        self._app, self._stamp = app, stamp
        self._pages: OrderedDict[Hashable, _Page] = OrderedDict()
        self._making: dict[Hashable, _Making] = {}
        self._turns = asyncio.Lock()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send if scope["path"] in UNCHANGED else self._dropping(send))
        elif scope["method"] == "GET" and _may_be_kept(scope):
            await self._page(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def drop(self) -> None:
        """Forget all pages, also those that are being made."""
        self._pages.clear()
        self._making.clear()

    def _dropping(self, send: Any) -> Any:
        """`send`, which drops what is kept before the answer begins."""

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.drop()
            await send(message)

        return sent

    async def _page(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        scope.setdefault("state", {})
        try:
            account = await looking(Request(scope))
        except NotSignedIn:
            await self._app(scope, receive, send)
            return
        key, stamp = _key(scope, account), self._stamp()
        page = self._pages.get(key)
        if page is None or not page.shows(stamp):
            making = self._making.get(key)
            if making is None or making.stamp != stamp:
                await self._make(key, stamp, scope, receive, send)
                return
            page = await asyncio.shield(making.future)
        if page is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = page.route
        await page.rendered.response(account)(scope, receive, send)

    async def _make(self, key: Hashable, stamp: Stamp, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer a request by the app, and keep the page unless something was changed meanwhile."""
        making = _Making(future=asyncio.get_running_loop().create_future(), stamp=stamp)
        self._making[key] = making
        before, page = self._pages.get(key), None
        turn = Turn(self._turns if scope["path"] in (*BY_SCOPE, *BY_TOKEN) else asyncio.Lock())
        try:
            async with turn:
                began = time.monotonic()
                await self._app(scope, receive, turn.ending(send))
            if (rendered := scope["state"].get("rendered")) is not None:
                page = _Page(
                    rendered=rendered, route=scope.get("route"), stamp=stamp, began=began,
                    seconds=time.monotonic() - began, before=before.began if before else float("-inf"),
                )  # fmt: skip
        finally:
            making.future.set_result(page)
            if self._making.get(key) is making:
                del self._making[key]
                self._keep(key, page)

    def _keep(self, key: Hashable, page: _Page | None) -> None:
        if page is None:
            self._pages.pop(key, None)
            return
        self._pages[key] = page
        self._pages.move_to_end(key)
        while len(self._pages) > MOST:
            self._pages.popitem(last=False)


class Turn:
    """A turn of a lock, for which one waits `TURN` seconds at most. It ends where an answer begins, since that takes as
    long as its reader likes."""

    def __init__(self, turns: asyncio.Lock) -> None:
        self._turns, self._held = turns, False

    async def __aenter__(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(TURN):
                self._held = await self._turns.acquire()

    async def __aexit__(self, *error: object) -> None:
        self._end()

    def ending(self, send: Any) -> Any:
        """`send`, which ends the turn before the answer begins."""

        async def sent(message: Any) -> None:
            self._end()
            await send(message)

        return sent

    def _end(self) -> None:
        if self._held:
            self._held = False
            self._turns.release()


def stamp_of(catalog: Catalog) -> Stamp:
    """How a workspace is: every commit writes the file of a catalog; one that is elsewhere never seems to change."""
    return Stamp(catalog=_facts(catalog.file), folders=tuple(_facts(catalog.home / name) for name in FOLDERS))


def shown(began: float, before: float, seconds: float, *, same: bool) -> bool:
    """Whether a page is shown again whose making began at a time of the monotonic clock and took so many seconds, after
    the one before it was begun; `same` says whether the catalog is still as it was.

    After a commit a page is made again, unless it was made again a moment ago already: so a single commit is seen at
    once, and of many in quick succession not each.
    """
    age = time.monotonic() - began
    if same:
        return age < FRESH
    longest = min(LONGEST, max(FRESH, SHARE * seconds))
    return age < longest and began - before < 2 * longest


def _facts(path: Path) -> Facts:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _may_be_kept(scope: dict[str, Any]) -> bool:
    path: str = scope["path"]
    return (path in BY_SCOPE or path in BY_TOKEN or path.startswith(BELOW)) and (
        f"{DONE}=".encode() not in scope["query_string"]
    )


def _key(scope: dict[str, Any], account: Account) -> Hashable:
    """What decides how a page looks: the address, whether htmx asks for a part of it, and who looks."""
    headers = dict(scope["headers"])
    asked = tuple(headers.get(name, b"") for name in (b"host", b"hx-request", b"hx-boosted"))
    who = account.token.scope if scope["path"] in BY_SCOPE else account.token
    return scope["path"], scope["query_string"], scope.get("root_path", ""), scope["scheme"], asked, who
