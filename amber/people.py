"""Waiting for people: what the command line and the loop do until label requests are answered."""

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from urllib.parse import urlsplit

from curation.errors import BadInput, Failed
from curation.labeling.desk import at_desk
from curation.labeling.hook import bell
from curation.labeling.items import UrlFor
from curation.labeling.pull import Pulled, pull
from curation.labeling.push import Asking, push
from curation.labeling.server import Server
from curation.labeling.settling import THIRD
from curation.ledger.catalog import Catalog

__all__ = ["DAY", "ask_people", "follow_up"]

DAY = 86_400
"""Seconds."""

Tell = Callable[[str, int, int], None]


def ask_people(
    catalog: Catalog, server: Server, asking: Asking, batch: str, *, url_for: UrlFor, lasting: float = 0,
    every: float = 5.0, progress: Tell | None = None,
) -> None:  # fmt: skip
    """Put every open request before people, and wait until they are done with all; then close them as `batch`.

    Ended at any moment, it is called again and goes on.
    """
    push(catalog, server, asking, url_for=url_for, lasting=lasting, progress=progress)
    follow_up(catalog, server, Pulled(waiting=1), every=every, batch=batch, progress=progress)


def follow_up(
    catalog: Catalog, server: Server, done: Pulled, *, every: float, batch: str = "", third: timedelta = THIRD,
    progress: Tell | None = None,
) -> Pulled:  # fmt: skip
    """Pull until people are done with every open request: when the bell rings, and `every` so many seconds anyway.

    `done` is what was pulled before; the sum is returned. The bell is hung up at a Label Studio on this machine alone;
    others do not reach it.
    """
    first = 0
    with ExitStack() as stack:
        rung = threading.Event()
        if urlsplit(server.url).hostname in ("127.0.0.1", "localhost"):
            with at_desk(catalog, server) as desk:
                projects = [int(project["id"]) for project in desk.projects]
            with suppress(Failed, BadInput):  # a server that takes no address of this machine: the poll is enough
                rung = stack.enter_context(bell(server, projects))
        while done.waiting:
            done = _sum(done, _patiently(catalog, server, batch, third))
            first = max(first, done.waiting)
            if progress:
                progress("people", first - done.waiting, first)
            if done.waiting:
                rung.wait(every)
                rung.clear()
    return done


def _patiently(catalog: Catalog, server: Server, batch: str, third: timedelta) -> Pulled:
    """A pull that takes an unreachable server for one that will be back."""
    try:
        return pull(catalog, server, batch=batch, third=third)
    except Failed:
        return Pulled(waiting=1)


def _sum(one: Pulled, other: Pulled) -> Pulled:
    total = {name: value + vars(other)[name] for name, value in vars(one).items()}
    return Pulled(**{**total, "waiting": other.waiting})
