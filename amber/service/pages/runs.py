"""Runs: the list, and trainings while they go on, by server-sent events."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from time import time
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from amber.service.access import Served, Workspace
from amber.service.facts.run_work import Works
from amber.service.facts.trends import spark
from amber.service.pages.accounts import Account, Looks
from amber.service.pages.rendering import ENVIRONMENT, page
from amber.service.streams import Event
from curation.analysis.box_attributes import is_of_attribute
from curation.files.atomic import machine, process_runs
from curation.files.prefixes import full_name
from training.dynamics.releases import champion
from training.live_run import NAME, Live, live_run, live_runs
from training.report.formatting import entry_view
from training.run_list import RunEntry, run_page

__all__ = ["live_page", "live_view", "router", "run_view"]

router = APIRouter(include_in_schema=False)

LIMIT: Final = 25
"""Runs of a page."""

RECENT: Final = 900.0
"""Seconds for which a finished training is shown among those that go on."""

KEPT: Final = 7 * 86_400.0
"""Seconds for which one is shown that was stopped, failed or was killed."""

EVALUATION: Final = 3_600.0
"""Seconds that the evaluation of a run on another machine may take."""


@router.get("/runs")
def runs(
    request: Request, account: Looks, workspace: Served, at: str = "", after: str = "", live: bool = False
) -> HTMLResponse:
    """All runs, the newest first; `at` and `after` are the time and the id of the last run of the page before.

    With `live` htmx gets the part about trainings that go on.
    """
    home = workspace.catalog.home
    if live and request.headers.get("hx-request") == "true":
        return HTMLResponse(_rendered("runs_live.html", _live(home)))
    with workspace.catalog.read() as now:
        entries, more = run_page(home, now, (at, after) if after else None, limit=LIMIT)
        deployed, commit = champion(now), now.commit
    view = {
        "title": "Runs", "commit": commit, "rows": [run_view(entry) for entry in entries], "more": more,
        "deployed": deployed, "first": not after, **_live(home),
    }  # fmt: skip
    return page(request, "runs.html", view, account=account)


@router.get("/events/runs")
async def watch(request: Request, account: Looks, workspace: Served, work: Works) -> Response:
    """The same part, again whenever it changes."""

    def look() -> Event:
        view = _live(workspace.catalog.home)
        return Event(text=_rendered("live_rows.html", view), goes_on=view["training"])

    return work.streams.stream("runs", look)


@router.get("/runs/{run}/live")
def watched(request: Request, account: Looks, workspace: Served, run: str) -> Response:
    """One training while it goes on."""
    return live_page(request, account, workspace, run)


@router.get("/events/runs/{run}")
async def watch_run(request: Request, account: Looks, workspace: Served, work: Works, run: str) -> Response:
    """One training, again whenever it changes, until it is evaluated or has ended otherwise."""

    def look() -> Event:
        view = live_view(workspace, run)
        return Event(text=_rendered("live_run.html", view), goes_on=view["goes_on"])

    return work.streams.stream(("run", run), look)


def live_page(request: Request, account: Account, workspace: Workspace, run: str) -> Response:
    """The page of a training that is not in the list of runs yet; NotFound when there is none, or several."""
    names = [path.parent.name for path in (workspace.catalog.home / "runs").glob(f"*/{NAME}")]
    id_ = full_name(run, names, what="run", where=workspace.catalog.home, listed="amber runs")
    view = {"title": f"Run {id_[:12]}", "run": id_, "view": live_view(workspace, id_), "spark": spark}
    return page(request, "run_live.html", view, account=account)


def live_view(workspace: Workspace, run: str) -> dict[str, Any]:
    """One training as it is now; `state` is that of `Live`, "evaluated" once its figures are in the catalog, or "gone"
    where nothing is known of it. `goes_on` says whether there is more to wait for."""
    home, found = workspace.catalog.home, live_run(workspace.catalog.home, run)
    finished = (home / "runs" / run / "run.json").is_file()
    evaluated = False
    if finished:
        with workspace.catalog.read() as now:
            evaluated = run in now.runs()["run"].to_pylist()
    state = "evaluated" if evaluated else found.state if found else "trained" if finished else "gone"
    waits = found is not None and state == "trained" and _evaluates(found)
    goes_on = state == "training" or waits
    view = _row(found) if found else {"live": None}
    return {**view, "run": run, "state": state, "waits": waits, "goes_on": goes_on}


def run_view(entry: RunEntry) -> dict[str, Any]:
    """A run of the list as plain values, its figures as cells."""
    figures = [
        {"task": row["task"], "metric": row["metric"], "entry": entry_view(row)}
        for row in entry.figures if row["value"] is not None and not is_of_attribute(row["metric"])
    ]  # fmt: skip
    return {**asdict(entry), "figures": figures}


def _evaluates(live: Live) -> bool:
    """Whether the process that trained a run may still evaluate it."""
    return process_runs(live.process) if live.machine == machine() else time() - live.at < EVALUATION


def _live(home: Path) -> dict[str, Any]:
    """The trainings that go on, and those that ended a short time ago without anybody's doing."""
    found = [_row(each) for each in live_runs(home, since=time() - RECENT) if time() - each.at < KEPT or not each.lost]
    return {"lives": found, "training": any(row["state"] == "training" for row in found)}


def _row(live: Live) -> dict[str, Any]:
    """A training as the templates show it."""
    curves = {
        name: [("", {"value": row[name]}) for row in live.points if row.get(name) is not None] for name in live.losses
    }
    return {
        "live": live, "share": round(100 * live.done / live.total, 1) if live.total else 0.0, "curves": curves,
        "state": live.state,
    }  # fmt: skip


def _rendered(name: str, view: Mapping[str, Any]) -> str:
    return ENVIRONMENT.get_template(f"pages/{name}").render({**view, "spark": spark})
