"""The runs of a workspace: when each was evaluated, by whom, on which plan, how well, and whether it is withdrawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, NotFound
from curation.files.prefixes import full_name
from curation.files.read_back import read_json
from curation.images.embeddings import models_of
from curation.rows import tabled
from samplers.plan.plan import AGAIN
from samplers.plan.plan_list import policy_name, written_at
from training.imported import is_imported, origin_of
from training.run import Run

__all__ = [
    "RunEntry", "ancestors", "embeddings_of", "list_runs", "newest_run", "run_before", "run_entry", "run_page",
    "trained_here", "two_runs",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunEntry:
    """A run: its id, the time, author and commit of its newest evaluation (0 and "": none yet), and what it is made of.

    `model` and `trained_on` are those of an imported run, "" otherwise.
    `policy` is "even" for equal shares, else the first digits of the policy's hash, and "" where the plan is missing.
    `figures` are the rows of test on all images: task, metric, n, groups, value, low, high. `withdrawn` is the time at
    which an image that it was trained on was forgotten, or "".
    """

    run: str
    at: datetime
    author: str
    commit: int
    plan: str
    policy: str
    parent: str
    figures: list[dict[str, Any]]
    alarms: list[str]
    withdrawn: str
    model: str = ""
    trained_on: str = ""


@tabled(RunEntry)
def list_runs(home: Path, now: Snapshot) -> list[RunEntry]:
    """The finished runs of `home` and those that the catalog has figures of, the newest first."""
    return run_page(home, now, limit=None)[0]


def run_page(
    home: Path, now: Snapshot, after: tuple[str, str] | None = None, *, limit: int | None
) -> tuple[list[RunEntry], tuple[str, str] | None]:
    """The next `limit` runs (None: all) of `list_runs` after a position, and the position after which more follow."""
    rows = _rows(home, now)
    commits = now.log.of(row["commit_id"] for row in rows.values() if row)
    times = {name: _time(home, name, row, commits) for name, row in rows.items()}
    order = sorted(((at.isoformat(), name) for name, at in times.items()), reverse=True)
    order = [place for place in order if after is None or place < after]
    page = order[:limit]
    figures = _figures(now) if page else {}
    entries = [_entry(home, now, name, rows[name], commits, figures.get(name, [])) for _, name in page]
    return entries, page[-1] if len(page) < len(order) else None


def run_entry(home: Path, now: Snapshot, run: str) -> RunEntry:
    """The run whose id is `run` or begins so; NotFound when there is none, or several."""
    rows = _rows(home, now)
    name = full_name(run, rows, what="run", where=home, listed="amber runs")
    row = rows[name]
    commits = now.log.of([row["commit_id"]] if row else [])
    return _entry(home, now, name, row, commits, _figures(now).get(name, []))


def run_before(home: Path, now: Snapshot, run_id: str) -> str:
    """The run to compare an evaluated run with: its parent if it was evaluated, else the last one evaluated before it.

    "" where there is none.
    """
    rows = now.runs().to_pylist()
    own = max(row["commit_id"] for row in rows if row["run"] == run_id)
    earlier = [row["run"] for row in rows if row["run"] != run_id and row["commit_id"] < own]
    parent = Run.open(home, run_id).parent if (home / "runs" / run_id / "run.json").is_file() else ""
    return parent if parent in earlier else earlier[-1] if earlier else ""


def ancestors(home: Path, run: str) -> list[str]:
    """The run and those that it continues, each the parent of the one before; without those that are gone."""
    found = []
    while run and (home / "runs" / run / "run.json").is_file():
        found.append(run)
        run = Run.open(home, run).parent
    return found


def newest_run(home: Path, now: Snapshot) -> str:
    """The id of the run that was evaluated last; NotFound where there is none."""
    names = now.runs()["run"].to_pylist()
    if not names:
        raise NotFound(f"{home}: the catalog has no run yet; create some with `amber train`")
    return str(names[-1])


def trained_here(home: Path, run: str) -> bool:
    """Whether Amber trained the run `run` (a whole id), so that it has a recipe; False for ""."""
    return bool(run) and not is_imported(home, run)


def embeddings_of(home: Path, run: str) -> str:
    """The name of the embeddings by which requests with a run (a whole id, or "") compare images: those that it reads,
    or else the first of the workspace; "" without any."""
    name = Run.open(home, run).recipe.embeddings if trained_here(home, run) else ""
    return name or next(iter(models_of(home)), "")


def two_runs(home: Path, now: Snapshot, run: str, before: str) -> tuple[str, str]:
    """The ids of the run before and of `run`, where either may be left out (""), or begin an id.

    By default `run` is the one evaluated last, and the other its `run_before`; an error where there is none.
    """
    newest = now.runs.full_id(run) if run else newest_run(home, now)
    earlier = now.runs.full_id(before) if before else run_before(home, now, newest)
    if not earlier:
        raise BadInput(f"run {newest!r}: no run was evaluated before it; name the one to compare it with")
    return earlier, newest


def _rows(home: Path, now: Snapshot) -> dict[str, dict[str, Any] | None]:
    """By run, what the catalog registered of it; None of a finished run that it has no figures of."""
    finished = dict.fromkeys(path.parent.name for path in (home / "runs").glob("*/run.json"))
    return finished | {row["run"]: row for row in now.runs().to_pylist()}


def _time(home: Path, name: str, row: Mapping[str, Any] | None, commits: Mapping[int, Any]) -> datetime:
    """When a run was evaluated last; where it was not, when it was finished."""
    if row and row["commit_id"] in commits:
        at: datetime = commits[row["commit_id"]]["committed_at"]
        return at
    return written_at(home / "runs" / name / "run.json")


def _entry(
    home: Path, now: Snapshot, name: str, row: Mapping[str, Any] | None, commits: Mapping[int, Any],
    figures: list[dict[str, Any]],
) -> RunEntry:  # fmt: skip
    run = Run.open(home, name) if (home / "runs" / name / "run.json").is_file() else None
    commit = commits.get(row["commit_id"]) if row else None
    plan = run.plan if run else str(row["plan"]) if row else ""
    note, origin = home / "runs" / name / "withdrawn.json", origin_of(home, name)
    beside = {"trained_on": origin["trained_on"]} if origin else {}
    return RunEntry(
        run=name, plan=plan, parent=run.parent if run else "", policy=_policy(home, plan, now),
        at=_time(home, name, row, commits).replace(microsecond=0),
        author=commit["author"] if commit else "", commit=commit["id"] if commit else 0,
        figures=[{**part, **beside} for part in figures],
        alarms=[alarm for alarm in (run.alarm, *run.alarms) if alarm] if run else [],
        withdrawn=read_json(note, AGAIN, lambda data: str(data["at"])) if note.is_file() else "",
        **origin,
    )  # fmt: skip


def _policy(home: Path, plan: str, now: Snapshot) -> str:
    path = home / "plans" / plan / "plan.json"
    return policy_name(read_json(path, AGAIN, dict), now) if path.is_file() else ""


def _figures(now: Snapshot) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in now.runs.on_everything().to_pylist():
        found.setdefault(row.pop("run"), []).append(row)
    return found
