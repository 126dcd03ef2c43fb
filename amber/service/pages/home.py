"""The first page: where the loop stands, what changed in a week, what fails, and what waits for whoever looks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from amber.service.access import Served
from amber.service.facts.counted import Counted, Making
from amber.service.facts.trends import Trends, spark, trends
from amber.service.pages.accounts import Account, Looks
from amber.service.pages.rendering import page
from curation.analysis.disputes import disputes
from curation.catalog.snapshot import Snapshot
from samplers.plan.waiting import Waiting, waiting_sign_offs
from training.dynamics.releases import releases
from training.judging.queue import queue_rows
from training.judging.task_changes import gate_outcomes, task_changes
from training.report.worst_slices import worst_slices

__all__ = ["COUNTED", "router"]

router = APIRouter(include_in_schema=False)

WEEK: Final = timedelta(days=7)
WORST: Final = 5


def _worst(now: Snapshot, home: Path) -> list[dict[str, Any]]:
    """The slices with the largest errors of the newest run, as the report orders them."""
    names = now.runs()["run"].to_pylist()
    if not names:
        return []
    found = worst_slices(now, names[-1], now.runs.predictions_file(home, names[-1]))[:WORST]
    return [{"task": part.task, "slice": part.slice, "told": part.told, "sure": part.sure} for part in found]


def _week(now: Snapshot, home: Path) -> dict[str, Any]:
    """What the commits of the last seven days did."""
    start = datetime.now(UTC).replace(tzinfo=None) - WEEK
    log = [row for row in now.log().to_pylist() if row["committed_at"] >= start]
    first = min((row["id"] for row in log), default=now.commit + 1) - 1
    labels = now.labels.statements(first).to_pylist()
    by_task = Counter[str]()
    for row in labels:
        by_task[row["task"]] += row["statements"]
    registered = [row for row in now.runs().to_pylist() if row["commit_id"] > first]
    return {
        "commits": len(log), "authors": sorted({row["author"] for row in log}), "labels": dict(by_task.most_common()),
        "runs": [row["run"] for row in registered], "newest": log[:6],
    }  # fmt: skip


def _asked(now: Snapshot, home: Path) -> dict[str, Any]:
    """Open requests by task, and how many were answered in the last seven days."""
    start = datetime.now(UTC).replace(tzinfo=None) - WEEK
    recent = {row["id"] for row in now.log().to_pylist() if row["committed_at"] >= start}
    open_ = Counter(now.requests("open")["task"].to_pylist())
    answered = len(now.requests.answered_by(sorted(recent))) if recent else 0
    return {"open": dict(open_.most_common()), "answered": answered}


def _stale(now: Snapshot, home: Path) -> list[dict[str, Any]]:
    """Tasks of which something changed since the newest run that learned them."""
    changes, _ = task_changes(now, home)
    rows = queue_rows(changes, {}, {})
    return [
        {"task": row.change.task, "run": row.change.run, "new": row.change.new, "corrected": row.change.corrected,
         "action": row.action}
        for row in rows if row.change.stale
    ]  # fmt: skip


def _disputes(now: Snapshot, home: Path) -> dict[str, int]:
    """Open disputes by task."""
    return dict(Counter(part.task for part in disputes(now)).most_common())


COUNTED: Final[Mapping[str, Making]] = {
    "worst": _worst, "week": _week, "asked": _asked, "stale": _stale, "disputed": _disputes, "trends": trends,
}  # fmt: skip


@router.get("/")
def home(request: Request, account: Looks, workspace: Served) -> HTMLResponse:
    """What a team looks at in the morning."""
    counted: Counted = request.app.state.counted
    with workspace.catalog.read() as now:
        commit, tasks, members = now.commit, now.tasks(), now.ownership.members()
        images = int(now.view.rows("SELECT count(*) FROM sample WHERE commit_id <= ?", [commit])[0][0])
        gates, released = gate_outcomes(now), releases(now)
        newest, waiting = _newest(now), waiting_sign_offs(workspace.catalog.home, now)
    figures = counted.figures(tuple(COUNTED), commit)
    values = {name: figure.value if figure else None for name, figure in figures.items()}
    mine = {owner for owner, people in members.items() if account.identity in people}
    view = {
        "title": "Home", "commit": commit, "figures": figures, **values, "newest": newest, "gates": gates,
        "released": released[-1] if released else None, "tasks": tasks, "images_known": images, "spark": spark,
        "trend_of": lambda row: _trend(values["trends"], row), "you": _yours(account, mine, tasks, values, waiting),
    }  # fmt: skip
    return page(request, "home.html", view, account=account)


def _newest(now: Snapshot) -> dict[str, Any] | None:
    """The run that was evaluated last: its id, when and by whom; None without one."""
    rows = now.runs().to_pylist()[-1:]
    commits = now.log.of(row["commit_id"] for row in rows)
    return next(({"run": row["run"], "at": commits[row["commit_id"]]["committed_at"],
                  "author": commits[row["commit_id"]]["author"]} for row in rows), None)  # fmt: skip


def _trend(found: Trends | None, row: Mapping[str, Any]) -> Any:
    return found.by_cell.get((row["task"], row["slice"])) if found else None


def _yours(
    account: Account, mine: set[str], tasks: Mapping[str, Any], values: Mapping[str, Any], waiting: Sequence[Waiting]
) -> dict[str, Any]:
    """What waits for this account: sign-offs and stale tasks of owners for whom it acts, and disputes for leads."""
    own = {name for name, task in tasks.items() if task.owner in mine}
    return {
        "owners": sorted(mine),
        "stale": [row for row in values["stale"] or [] if row["task"] in own or account.may("admin")],
        "disputes": values["disputed"] or {} if account.may("admin") else {},
        "waiting": [row for row in waiting if mine & row.losses.keys()],
    }
