"""Waiting for people: what the command line and the loop do until label requests are answered."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from functools import partial
from math import inf
from typing import Final
from urllib.parse import urlsplit

from curation.catalog.catalog import Catalog
from curation.errors import AmberError, Busy, Failed, NotFound
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.items import UrlFor
from curation.labelstudio.pull import Pulled, pull
from curation.labelstudio.push import Asking, push
from curation.labelstudio.resolution import THIRD
from curation.labelstudio.session import open_session
from curation.labelstudio.webhook import bell

__all__ = ["DAY", "ask_people", "follow_up"]

DAY = 86_400
"""Seconds."""

AGAIN: Final = 600.0
"""Seconds between two pushes of who waits: how long people may be without what was asked for meanwhile."""

Tell = Callable[[str, int, int], None]


def ask_people(
    catalog: Catalog, server: LabelStudioClient, asking: Asking, batch: str, *, url_for: UrlFor, lasting: float = 0,
    every: float = 5.0, third: timedelta = THIRD, progress: Tell | None = None,
) -> None:  # fmt: skip
    """Put every open request before people, and wait until they are done with all; then close them as `batch`.

    While it waits it pushes again, eight times in the `lasting` seconds for which URLs hold and every ten minutes
    at least: so they are renewed before they end, and what others ask for, or delete on the server, comes before people
    too. Ended at any moment, it is called again and goes on.
    """
    ask = partial(push, catalog, server, asking, url_for=url_for, lasting=lasting)
    ask(progress=progress)
    follow_up(
        catalog, server, Pulled(waiting=1), every=every, batch=batch, third=third, progress=progress, ask=ask,
        pause=min(AGAIN, lasting / 8) if lasting else AGAIN,
    )  # fmt: skip


def follow_up(
    catalog: Catalog, server: LabelStudioClient, done: Pulled, *, every: float, batch: str = "",
    third: timedelta = THIRD, progress: Tell | None = None, ask: Callable[[], object] = lambda: None,
    pause: float = inf,
) -> Pulled:  # fmt: skip
    """Pull until people are done with every open request: when the bell rings, and `every` so many seconds anyway.

    `done` is what was pulled before; the sum is returned. Every `pause` seconds `ask` puts before people what is not
    there. A server that is away, and a workspace that others hold, are waited for.
    """
    first, asked = 0, time.monotonic()
    with ExitStack() as stack:
        rung = _bell(catalog, server, stack)
        while done.waiting:
            if time.monotonic() > asked + pause:
                with suppress(Failed, Busy, NotFound):  # what was deleted under it is made again by the next
                    ask()
                asked = time.monotonic()
            done = _sum(done, _patiently(catalog, server, batch, third, done.waiting))
            first = max(first, done.waiting)
            if progress:
                progress("people", first - done.waiting, first)
            if done.waiting:
                rung.wait(min(every, pause))
                rung.clear()
    return done


def _bell(catalog: Catalog, server: LabelStudioClient, stack: ExitStack) -> threading.Event:
    """The bell of a Label Studio on this machine; others do not reach it, and theirs never rings."""
    if urlsplit(server.url).hostname in ("127.0.0.1", "localhost"):
        with suppress(AmberError):  # or it takes no address of this machine: the poll is enough
            with open_session(catalog, server) as desk:
                projects = [int(project["id"]) for project in desk.projects]
            return stack.enter_context(bell(server, projects))
    return threading.Event()


def _patiently(catalog: Catalog, server: LabelStudioClient, batch: str, third: timedelta, waiting: int) -> Pulled:
    """A pull that takes a server that is away for one that will be back, and who holds the workspace for done soon."""
    try:
        return pull(catalog, server, batch=batch, third=third)
    except (Failed, Busy):
        return Pulled(waiting=waiting)


def _sum(one: Pulled, other: Pulled) -> Pulled:
    total = {name: value + vars(other)[name] for name, value in vars(one).items()}
    return Pulled(**{**total, "waiting": other.waiting})
