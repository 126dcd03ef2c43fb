"""Wait until people have answered the label requests; the command line and the loop use this."""

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
from curation.files.progress import StageProgress
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.pull import PullResult, pull
from curation.labelstudio.push import Asking, push
from curation.labelstudio.resolution import THIRD
from curation.labelstudio.session import open_session
from curation.labelstudio.shown_images import UrlFor
from curation.labelstudio.webhook import wake_ups

__all__ = ["ask_people", "follow_up"]


PUSH_EVERY: Final = 600.0
"""Seconds between two pushes while waiting: new requests reach people after at most this long."""


def ask_people(
    catalog: Catalog, server: LabelStudioClient, asking: Asking, batch: str, *, url_for: UrlFor, lasting: float = 0,
    every: float = 5.0, push_every: float = PUSH_EVERY, third: timedelta = THIRD, progress: StageProgress | None = None,
) -> None:  # fmt: skip
    """Push every open request, wait until all are finished, and close them in one commit with the id `batch`.

    While waiting it pulls every `every` seconds, and pushes every `push_every` seconds, or every eighth of `lasting`
    (the seconds for which image URLs are valid) if that is sooner. So URLs are renewed before they expire, and requests
    that others add, or items that they delete on the server, reach people too. If it is killed, call it again.
    """
    push_again = partial(push, catalog, server, asking, url_for=url_for, lasting=lasting)
    push_again(progress=progress)
    follow_up(
        catalog, server, PullResult(waiting=1), every=every, batch=batch, third=third, progress=progress,
        push_again=push_again, push_every=min(push_every, lasting / 8) if lasting else push_every,
    )  # fmt: skip


def follow_up(
    catalog: Catalog, server: LabelStudioClient, done: PullResult, *, every: float, batch: str = "",
    third: timedelta = THIRD, progress: StageProgress | None = None, push_again: Callable[[], object] = lambda: None,
    push_every: float = inf,
) -> PullResult:  # fmt: skip
    """Pull until every open request is finished: on each webhook wake-up, and at least every `every` seconds.

    Returns the sum of `done`, an earlier pull, and of these pulls. Calls `push_again` every `push_every` seconds. An
    unreachable server and a workspace locked by others are waited for.
    """
    first, pushed = 0, time.monotonic()
    with ExitStack() as stack:
        wake_up = _wake_up(catalog, server, stack)
        while done.waiting:
            if time.monotonic() > pushed + push_every:
                with suppress(Failed, Busy, NotFound):  # the next push creates again what was deleted meanwhile
                    push_again()
                pushed = time.monotonic()
            done = _sum(done, _pull_or_wait(catalog, server, batch, third, done.waiting))
            first = max(first, done.waiting)
            if progress:
                progress("people", first - done.waiting, first)
            if done.waiting:
                wake_up.wait(min(every, push_every))
                wake_up.clear()
    return done


def _wake_up(catalog: Catalog, server: LabelStudioClient, stack: ExitStack) -> threading.Event:
    """The webhook wake-up of a Label Studio on this machine; for a remote server, which cannot reach us, an event that
    is never set."""
    if urlsplit(server.url).hostname in ("127.0.0.1", "localhost"):
        with suppress(AmberError):  # the server may refuse local URLs; polling suffices
            with open_session(catalog, server) as session:
                projects = [int(project["id"]) for project in session.projects]
            return stack.enter_context(wake_ups(server, projects))
    return threading.Event()


def _pull_or_wait(
    catalog: Catalog, server: LabelStudioClient, batch: str, third: timedelta, waiting: int
) -> PullResult:
    """Pull; an empty result when the server is unreachable or the workspace is locked, which should pass."""
    try:
        return pull(catalog, server, batch=batch, third=third)
    except (Failed, Busy):
        return PullResult(waiting=waiting)


def _sum(one: PullResult, other: PullResult) -> PullResult:
    total = {name: value + vars(other)[name] for name, value in vars(one).items()}
    return PullResult(**{**total, "waiting": other.waiting})
