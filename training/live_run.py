"""How far a training is, in `runs/<id>/live.json`: written by the trainer as it goes, read by whoever watches it.

The file is written whole, at most once a second, and stays when the training ends: it says how that came about. Where
the process is gone without a word, it was killed.
"""

import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from curation.errors import AmberError, Failed
from curation.files.atomic import machine, process_runs, whole
from curation.files.read_back import read_json

__all__ = ["NAME", "Live", "LiveRun", "Outcome", "Stopped", "live_run", "live_runs"]

NAME: Final = "live.json"

FORMAT: Final = 1

EVERY: Final = 1.0
"""Seconds between two writes at least."""

WINDOW: Final = 10
"""Writes over which the speed is measured."""

SILENT: Final = 120.0
"""Seconds after which a training on another machine that wrote nothing counts as lost."""

AGAIN: Final = "train the run again"

Outcome = Literal["", "trained", "stopped", "failed"]
"""How a training ended, as it said itself; "" while it runs."""


class Stopped(Failed):
    """A training was asked to stop, and wrote a checkpoint first: the same again goes on there."""


@dataclass(frozen=True, kw_only=True)
class Live:
    """A training as its process wrote it at `at` (seconds since 1970): `done` of `total` draws, or of heads to solve.

    `losses` are the mean training losses of the newest draws by task, `points` the same over the draws from the start
    (rows of `Draws` and of each task), `states` those of tasks that stop by themselves. `rate` is in draws a second, 0
    while it is not known. `outcome` says how it ended, `line` why.
    """

    run: str
    plan: str
    parent: str
    machine: str
    process: int
    started: float
    at: float
    unit: Literal["images", "heads"]
    done: int = 0
    total: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    points: list[dict[str, float]] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    rate: float = 0.0
    outcome: Outcome = ""
    line: str = ""

    @property
    def lost(self) -> bool:
        """Whether its process is gone, or says nothing from another machine, though it wrote no end."""
        if self.machine == machine():
            return not process_runs(self.process)
        return time.time() - self.at > SILENT

    @property
    def state(self) -> str:
        """ "training", or how it ended: "trained", "stopped", "failed" or "killed"."""
        return self.outcome or ("killed" if self.lost else "training")

    @property
    def left(self) -> float | None:
        """Seconds that are left at this speed; None while it is not known."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


class LiveRun:
    """The note of one training in `folder`; `step` it, and leave its block when it ends."""

    def __init__(self, folder: Path, now: Live, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self.now, self._clock = folder / NAME, now, clock
        self._written = 0.0
        self._past: deque[tuple[float, int]] = deque(maxlen=WINDOW)

    @classmethod
    def begin(cls, folder: Path, *, plan: str, parent: str, solved: bool) -> "LiveRun":
        """A training that begins now, in this process; its run is named as its folder."""
        at = time.time()
        unit: Literal["images", "heads"] = "heads" if solved else "images"
        return cls(folder, Live(run=folder.name, plan=plan, parent=parent, machine=machine(), process=os.getpid(),
                                started=at, at=at, unit=unit))  # fmt: skip

    @contextmanager
    def watched(self) -> Iterator["LiveRun"]:
        """Note the beginning, and how the block ended: with its line where it was stopped or failed.

        What ends before its first step leaves no note.
        """
        self._write()
        try:
            yield self
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt | Stopped)
            line = str(error) if isinstance(error, AmberError) else f"{type(error).__name__} {error}".strip()
            self._end("stopped" if stopped else "failed", " ".join(line.split())[:500])
            if not self.now.total:
                self._leave_nothing()
            raise
        self._end("trained", "")

    def step(self, done: int, total: int, losses: Callable[[], Mapping[str, float]] | None = None) -> None:
        """Note that `done` of `total` is done, unless the last note is younger than a second.

        `losses` is called only then: what it reads may wait for a GPU.
        """
        at = self._clock()
        if at - self._written < EVERY:
            return
        self._past.append((at, done))
        begun, before = self._past[0]
        since = at - begun
        rate = (done - before) / since if since > 0 and self.now.unit == "images" else 0.0
        self.now = replace(self.now, done=done, total=total, rate=rate, losses=dict(losses()) if losses else {})
        self._write()

    def point(self, row: Mapping[str, float]) -> None:
        """Add a point of the curve: `Draws`, and the loss of each task; written with the next step."""
        self.now = replace(self.now, points=[*self.now.points, dict(row)])

    def judge(self, states: Mapping[str, str]) -> None:
        """The states of tasks that stop by themselves; written with the next step."""
        self.now = replace(self.now, states=dict(states))

    def _end(self, outcome: Outcome, line: str) -> None:
        done = self.now.total if outcome == "trained" else self.now.done
        self.now = replace(self.now, outcome=outcome, line=line, done=done)
        self._write()

    def _leave_nothing(self) -> None:
        """A training that was refused before its first step leaves no folder."""
        with suppress(OSError):
            self._path.unlink()
            self._path.parent.rmdir()

    def _write(self) -> None:
        self._written = self._clock()
        self.now = replace(self.now, at=self._written)
        with suppress(Failed), whole(self._path) as part:  # a full disk is reported by what the training needs
            part.write_text(json.dumps({"format": FORMAT, **asdict(self.now)}))


def live_run(home: Path, run: str) -> Live | None:
    """What a training of this whole id wrote last; None where it wrote nothing, or something else than this format."""
    path = home / "runs" / run / NAME
    try:
        return read_json(path, AGAIN, _of) if path.is_file() else None
    except (AmberError, OSError):
        return None


def live_runs(home: Path, *, since: float = math.inf) -> list[Live]:
    """The trainings that run, and those that ended without a run, or after `since` (seconds since 1970); newest first.

    A run whose training was finished is in the list of runs, so an old note of it is left out.
    """
    found = []
    for path in (home / "runs").glob(f"*/{NAME}"):
        live = live_run(home, path.parent.name)
        if live and (live.at >= since or not (path.parent / "run.json").is_file()):
            found.append(live)
    return sorted(found, key=lambda live: (live.started, live.run), reverse=True)


def _of(data: dict[str, Any]) -> Live:
    if (found := data.pop("format", None)) != FORMAT:
        raise ValueError(f"its format is {found!r}, this Amber knows {FORMAT}")
    return Live(**data)
