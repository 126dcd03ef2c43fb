"""What pages show and takes seconds at a million samples: computed once a commit, by one thread, in the background.

The thread reads aside (`Catalog.read_aside`): commits do not wait for it, and what it makes in one go is of one commit.
It makes that at a low priority (but not the copy of the catalog, for which commits wait), and rests between commits in
proportion to what it worked.

A page shows the newest value that is ready, and the commit that it is of; where none is ready yet it says so and asks
again. Values are of one commit each and never of two.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.errors import AmberError

__all__ = ["Counted", "Figure", "Making", "MakingOf"]

Making = Callable[[Snapshot, Path], Any]
"""What computes a value from a snapshot and the workspace."""

MakingOf = Callable[[Snapshot, Path, str], Any]
"""The same for one of many things, such as a task; the value's name is PART:THING."""

PATIENCE: Final = 0.15
"""Seconds that a page waits for values of its own commit."""

QUICK: Final = 0.05
"""Seconds of making a value for which no rest is taken."""

REST: Final = 5.0
"""How many times as long as it took to make values the thread rests before it makes them of a newer commit."""

NICE: Final = 10
"""How much lower than that of requests the priority of the thread is, where threads have one (Linux)."""

KEPT: Final = 900
"""Seconds for which a value is kept, and made again after a commit, once somebody has looked at it."""

DEAR: Final = 2.0
"""A value that took more seconds is made again after a commit only where somebody has looked since it was made."""

LOG: Final = logging.getLogger("amber.service")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A value, the commit that it is of, and why it could not be made of a newer one ("": it could)."""

    value: Any
    commit: int
    problem: str = ""


class Counted:
    """Values by name, each by the function of `parts` with that name, or by that of `families` with what stands before
    the colon of its name; `close` ends the thread. A value that nobody asked for in `KEPT` seconds is dropped."""

    def __init__(
        self, catalog: Catalog, parts: Mapping[str, Making], families: Mapping[str, MakingOf] | None = None
    ) -> None:
        self._catalog, self._parts, self._families = catalog, dict(parts), dict(families or {})
        self._known: dict[str, Figure] = {}
        self._asked: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._begun: dict[str, float] = {}
        self._wanted, self._rested = 0, 0.0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def figures(self, names: Sequence[str], commit: int) -> dict[str, Figure | None]:
        """The newest value of each name, and as soon as possible one of `commit`; None while there is none.

        Waits `PATIENCE` seconds at most for those of `commit`, so that a small catalog is shown as it is, and not at
        all for those that took longer before: what was asked for last is computed first.
        """
        with self._changed:
            self._wanted = max(self._wanted, commit)
            self._asked |= dict.fromkeys(names, time.monotonic())
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._work, name="amber-counted", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            if not any(self._late(name, commit) for name in names):
                self._changed.wait_for(
                    lambda: self._closed or all(self._at(name) >= commit for name in names), PATIENCE
                )
            return {name: self._known.get(name) for name in names}

    def close(self) -> None:
        """End the thread after the value that it computes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _at(self, name: str) -> int:
        return self._known[name].commit if name in self._known else -1

    def _late(self, name: str, commit: int) -> bool:
        """Whether a value of `commit` will not be ready within a moment."""
        resting = name in self._known and self._rested > time.monotonic() + PATIENCE
        return self._at(name) < commit and (resting or self._seconds.get(name, 0.0) > PATIENCE)

    def _stale(self) -> list[str]:
        """What somebody looks at and is not of the newest commit that was asked for, what is to be made first in front;
        without values that wait until the thread has rested."""
        now = time.monotonic()
        for name in [name for name, at in self._asked.items() if now - at > KEPT]:
            del self._asked[name]
            self._known.pop(name, None)
        stale = [name for name in self._asked if self._at(name) < self._wanted and self._looked_at(name)]
        if now < self._rested:
            stale = [name for name in stale if name not in self._known]
        return sorted(stale, key=lambda name: (name in self._known, -self._asked[name]))

    def _looked_at(self, name: str) -> bool:
        """Whether somebody has looked at a value since its making began, where it is dear."""
        return self._seconds.get(name, 0.0) <= DEAR or self._asked[name] > self._begun[name]

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not self._stale():
                    rest = self._rested - time.monotonic()
                    self._changed.wait(rest if rest > 0 else None)
                if self._closed:
                    return
            began = time.monotonic()
            try:
                with self._catalog.read_aside() as now:
                    making = threading.Thread(target=self._make_all, args=(now,), name="amber-counted-making")
                    making.start()
                    making.join()
            except AmberError as error:  # the catalog cannot be read
                self._fail(str(error))
            ended = time.monotonic()
            with self._changed:
                self._rested = max(self._rested, ended + REST * max(0.0, ended - began - QUICK))

    def _make_all(self, now: Snapshot) -> None:
        """Make what is stale of one commit, at a low priority."""
        _step_back()
        while True:
            with self._changed:
                wanted = [name for name in self._stale() if self._at(name) < now.commit]
                if self._closed or not wanted:
                    return
                name = wanted[0]
            began = time.monotonic()
            figure = self._made(now, name)
            with self._changed:
                self._begun[name], self._seconds[name] = began, time.monotonic() - began
                self._known[name] = figure
                self._changed.notify_all()

    def _fail(self, problem: str) -> None:
        """Say of everything that is stale why it cannot be made."""
        with self._changed:
            for name in self._stale():
                before = self._known.get(name)
                value = before.value if before else None
                self._known[name] = Figure(value=value, commit=self._wanted, problem=problem)
            self._changed.notify_all()

    def _made(self, now: Snapshot, name: str) -> Figure:
        """The value of a snapshot; the one before with the problem where it cannot be made."""
        before = self._known.get(name)
        part, colon, thing = name.partition(":")
        try:
            home = self._catalog.home
            made = self._families[part](now, home, thing) if colon else self._parts[part](now, home)
            return Figure(value=made, commit=now.commit)
        except AmberError as error:
            problem = str(error)
        except Exception as error:
            LOG.exception("counting %s failed", name)
            problem = f"{type(error).__name__}: {error}"
        return Figure(value=before.value if before else None, commit=now.commit, problem=problem)


def _step_back() -> None:
    """Lower the priority of this thread, and of those of DuckDB that it starts."""
    if sys.platform == "linux":  # where a priority is that of a thread
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
