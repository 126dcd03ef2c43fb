"""Moments of a catalog as people type them: a commit, a date, a run or a plan."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc

from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from samplers.plan.plan import Plan
from training.imported import Imported
from training.run import Run

__all__ = ["DAY", "Moment", "moment_of"]

DAY = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A commit, and the run whose training labels it holds, "" if no run was named."""

    commit: int
    run: str = ""


def moment_of(home: Path, now: Snapshot, text: str) -> Moment:
    """The moment that `text` names: a commit, a date in UTC, or the beginning of a run's id or a plan's hash.

    A day means its end. A run or plan means the commit whose labels it was made of. BadInput for anything else, and
    NotFound for the beginning of several.
    """
    if text.isdecimal() and (int(text) <= now.commit or len(text) < 4):
        return Moment(commit=int(text))
    if DAY.match(text):
        return Moment(commit=_newest_at(now, text))
    if _begins(home, "runs/*/run.json", text):
        run = Run.open(home, text)
        return Moment(commit=run.commit, run=run.id)
    if _begins(home, "runs/*/imported.json", text):
        imported = Imported.open(home, text)
        return Moment(commit=imported.commit, run=imported.id)
    if _begins(home, "plans/*/plan.json", text):
        return Moment(commit=Plan.open(home, text).commit)
    raise BadInput(
        f"{text!r}: must be a commit, a date as in 2026-05-31 or 2026-05-31T18:00, or the beginning of a run's id or a "
        "plan's hash; `amber log`, `amber runs` and `amber plan --list` list them"
    )


def _begins(home: Path, pattern: str, text: str) -> bool:
    """Whether the name of a folder of the workspace begins with `text`."""
    return bool(text) and any(path.parent.name.startswith(text) for path in home.glob(pattern))


def _newest_at(now: Snapshot, text: str) -> int:
    """The newest commit at a time; a day means its end."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"date {text!r}: must be as 2026-05-31 or 2026-05-31T18:00; correct it") from None
    if DAY.fullmatch(text):
        at += timedelta(days=1) - timedelta(microseconds=1)
    if at.tzinfo is not None:
        at = at.astimezone(UTC).replace(tzinfo=None)
    log = now.log()
    found = log.filter(pc.less_equal(log["committed_at"], at))
    if not len(found):
        first = log["committed_at"][-1].as_py().isoformat(timespec="seconds")
        raise BadInput(f"date {text}: no commit is that old; the first one is of {first} UTC")
    return int(found["id"][0].as_py())
