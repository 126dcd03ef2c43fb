"""Tasks: who owns each, how much is labelled, how well it does, what it gets; and each task by class and slice."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from amber.service.access import Served
from amber.service.facts.counted import Counted, Figure, Making
from amber.service.facts.trends import Trends, spark, trends
from amber.service.pages.accounts import Looks
from amber.service.pages.rendering import page
from curation.catalog.schema import STATES
from curation.catalog.snapshot import Snapshot
from samplers.plan.plan import Plan
from samplers.plan.plan_list import list_plans
from samplers.plan.task_outcomes import task_outcomes
from training.run import Run
from training.run_list import trained_here

__all__ = ["COUNTED", "router"]

router = APIRouter(include_in_schema=False)


def _known(now: Snapshot, home: Path) -> dict[str, dict[str, int]]:
    """Counts of all images by task: samples, known, unsure, inapplicable (as an annotator said it)."""
    samples = now.samples("sample_id").num_rows
    names = {code: name for name, code in STATES.items()}
    found = {name: {"samples": samples} | dict.fromkeys(STATES, 0) for name in now.tasks()}
    for name, sums in found.items():
        counts = pc.value_counts(now.labels(name, "state")["state"].combine_chunks()).to_pylist()
        sums |= {names[row["values"]]: row["counts"] for row in counts}
    return found


def _outcomes(now: Snapshot, home: Path) -> dict[str, dict[str, Any]]:
    """What each task gets from the newest plan that is not withdrawn."""
    plans = [entry.plan for entry in list_plans(home, now) if not entry.withdrawn][:1]
    return {row.task: {**asdict(row), "plan": plan} for plan in plans for row in task_outcomes(Plan.open(home, plan))}


COUNTED: Final[Mapping[str, Making]] = {"known": _known, "trends": trends, "outcomes": _outcomes}


@router.get("/tasks")
def tasks(request: Request, account: Looks, workspace: Served) -> HTMLResponse:
    """All tasks, with what is known of each."""
    counted: Counted = request.app.state.counted
    with workspace.catalog.read() as now:
        definitions, commit = now.tasks(), now.commit
    figures = counted.figures(tuple(COUNTED), commit)
    known, trend, outcomes = figures["known"], figures["trends"], figures["outcomes"]
    states = _states(workspace.catalog.home, trend)
    rows = [
        {
            "task": task, "known": _part(known, task.name), "outcome": _part(outcomes, task.name),
            "trend": _trend(trend, task.name), "state": states.get(task.name, ""),
        }
        for task in definitions.values()
    ]  # fmt: skip
    view = {"title": "Tasks", "rows": rows, "commit": commit, "figures": figures, "spark": spark}
    return page(request, "tasks.html", view, account=account)


def _part(figure: Figure | None, name: str) -> Any:
    return figure.value.get(name) if figure and figure.value else None


def _trend(figure: Figure | None, task: str) -> Any:
    found: Trends | None = figure.value if figure else None
    return found.by_cell.get((task, "")) if found else None


def _states(home: Path, figure: Figure | None) -> dict[str, str]:
    """The state in which the newest trained run left each task; tasks of solved heads have none."""
    runs = [run for run in (figure.value.runs if figure and figure.value else ()) if trained_here(home, run)]
    return {row["task"]: row["state"] for row in Run.open(home, runs[-1]).states} if runs else {}
