"""One run: its figures by task and slice, each task by class, its training, its lineage, and its report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse
from starlette.responses import Response

from amber.service.access import Served, Workspace
from amber.service.facts.run_work import RunWork, Works
from amber.service.pages.accounts import Looks
from amber.service.pages.rendering import page
from amber.service.pages.runs import live_page, live_view, run_view
from curation.analysis.box_attributes import is_of_attribute
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import AmberError, NotFound
from samplers.plan.plan import Plan
from training.dynamics.lineage import lineage_of
from training.dynamics.lineage_page import lineage_view
from training.dynamics.releases import champion
from training.dynamics.run_marks import run_marks
from training.imported import beside_of, is_imported
from training.report.formatting import FEW, WIDE, doubt_of, edges_of, entry_view, plain_text
from training.report.run_results import registered_run
from training.report.sections import recipe_text, training_view
from training.report.task_parts import task_parts
from training.run import Run
from training.run_list import RunEntry, run_before, run_entry

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

Row = Mapping[str, Any]
View = dict[str, Any]

REPORT_POLICY: Final = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
)
"""A report holds its own style and pictures, and loads nothing."""


@router.get("/runs/{run}")
def shown(
    request: Request, account: Looks, workspace: Served, work: Works, run: str, part: str = "", task: str = ""
) -> Response:
    """One run; while it is trained or evaluated, how far that is. `run` may be the beginning of its id.

    `part` is "" for the figures, "training" or "lineage"; `task` shows one task by slice and class.
    """
    home = workspace.catalog.home
    try:
        with workspace.catalog.read() as now:
            entry = run_entry(home, now, run)
            view = _frame(now, home, entry, part, task)
            if not part:
                view |= _of_task(now, entry, task) if task else _figures(now, entry)
    except NotFound:
        if any((home / "runs").glob(f"{_plain(run)}*/live.json")):
            return live_page(request, account, workspace, run)
        raise
    if not entry.commit and live_view(workspace, entry.run)["goes_on"]:
        return live_page(request, account, workspace, entry.run)
    view |= _part(workspace, work, entry, part, task)
    return page(request, "run.html", view, account=account)


@router.get("/runs/{run}/report")
def report(request: Request, account: Looks, work: Works, run: str) -> Response:
    """The links to the report of a run, which is made first."""
    asked = work.ask(*work.report(run))
    if asked.error:
        raise asked.error
    view = {"title": "Report", "run": run, "asked": asked}
    return page(request, "run_report.html", view, account=account)


@router.get("/runs/{run}/report.html")
def report_file(request: Request, account: Looks, work: Works, run: str, save: bool = False) -> Response:
    """The report of a run as one HTML file; with `save` the browser keeps it."""
    key, maker = work.report(run)
    asked = work.ask(key, maker)
    if asked.error:
        raise asked.error
    if not asked.ready:
        return RedirectResponse(f"/runs/{_plain(run)}/report", 303)
    kind = "attachment" if save else "inline"
    name = f"report-{asked.value.stem[:12]}.html"
    headers = {"content-security-policy": REPORT_POLICY, "cache-control": "no-store"}
    return FileResponse(
        asked.value, media_type="text/html", headers=headers, filename=name, content_disposition_type=kind
    )


def _plain(run: str) -> str:
    """The letters of an id, without what means something in a path or a pattern."""
    return "".join(letter for letter in run if letter.isalnum() or letter in "-_.")


def _frame(now: Snapshot, home: Path, entry: RunEntry, part: str, task: str) -> View:
    """What stands on every part of the page."""
    imported = is_imported(home, entry.run)
    finished = not imported and (home / "runs" / entry.run / "run.json").is_file()
    record = Run.open(home, entry.run) if finished else None
    return {
        "title": f"Run {entry.run[:12]}", "run": run_view(entry), "tab": part, "task": task, "record": record,
        "recipe": recipe_text(record.recipe) if record else "", "beside": beside_of(home, entry.run),
        "before": run_before(home, now, entry.run) if entry.commit else "", "deployed": champion(now) == entry.run,
        "marks": run_marks(home, now, [entry.run]).get(entry.run, []), "asked": None, "few": FEW, "wide": WIDE,
        "ended": record.ended if record else {},
    }  # fmt: skip


def _figures(now: Snapshot, entry: RunEntry) -> View:
    """The figures of all tasks on everything, and the worst slices."""
    tasks = now.tasks()
    rows = [_figure(row, tasks[row["task"]]) for row in entry.figures if row["task"] in tasks and not _beside(row)]
    worst = now.runs.worst_slices(entry.run, fewest=FEW, widest=WIDE).to_pylist() if entry.commit else []
    return {"rows": rows, "worst": [_figure(row, tasks[row["task"]]) for row in worst if row["task"] in tasks]}


def _of_task(now: Snapshot, entry: RunEntry, name: str) -> View:
    """The figures of one task on test and validation, everything first, then slices, the worst first."""
    task, slices = now.task(name), now.slices()
    found = [row for row in now.runs.figures_of(entry.run, name).to_pylist() if not _beside(row)]
    other = {(row["slice"], row["metric"]): row for row in found if row["split"] == "validation"}
    rows = [
        {
            **_figure(row, task), "validation": entry_view(other.get((row["slice"], row["metric"]))),
            "rare": row["slice"] in slices and slices[row["slice"]].rare,
            "predicate": plain_text(slices[row["slice"]].predicate) if row["slice"] in slices else "",
        }
        for row in found if row["split"] == "test"
    ]  # fmt: skip
    rows.sort(key=lambda row: (bool(row["slice"]), bool(row["doubt"]), -row["error"], row["slice"]))
    return {"definition": task, "rows": rows, "validation": bool(other)}


def _beside(row: Row) -> bool:
    return bool(is_of_attribute(row["metric"]))


def _figure(row: Row, task: Task) -> View:
    """A figure as a row of a table, with its bar where it is a share."""
    share, value = row["metric"] != "mae", row["value"]
    bar = None
    if share and value is not None:
        low, high = edges_of(row)
        bar = {name: round(100 * min(1.0, mark), 2) for name, mark in (("value", value), ("low", low), ("high", high))}
    return {
        "task": row["task"], "slice": row.get("slice", ""), "metric": row["metric"], "n": row["n"],
        "groups": row["groups"], "entry": entry_view(row), "doubt": doubt_of(row), "owner": task.owner,
        "unit": "" if share else task.unit, "bar": bar and {**bar, "everything": None},
        "error": 0.0 if value is None else float(1 - value if share else value),
    }  # fmt: skip


def _part(workspace: Workspace, work: RunWork, entry: RunEntry, part: str, task: str) -> View:
    """What takes longer, in the background; or the line that says why there is none."""
    if task and not part and entry.commit:
        return _asked(
            work, _key(workspace, entry, "task", task), lambda tell: task_parts(work.catalog, entry.run, task, tell)
        )
    if part == "training" and entry.plan and not entry.model:
        return _asked(work, ("training", entry.run), lambda tell: _training(workspace.catalog.home, entry.run))
    if part == "lineage":
        return _lineage(workspace, entry.run)
    return {}


def _asked(work: RunWork, key: Any, maker: Any) -> View:
    asked = work.ask(key, maker)
    return {"asked": asked, "line": str(asked.error) if asked.error else "", **(asked.value or {})}


def _key(workspace: Workspace, entry: RunEntry, *words: str) -> tuple[str, ...]:
    """A key that changes when the run is evaluated again, or its predictions are rewritten."""
    with workspace.catalog.read() as now:
        found = registered_run(now, entry.run)
    return (*words, entry.run, str(found["commit_id"]), str(found["sha256"]))


def _training(home: Path, run: str) -> View:
    """How heads were solved, or the loss of each task over its draws."""
    record = Run.open(home, run)
    return {"training": training_view(record, Plan.open(home, record.plan))}


def _lineage(workspace: Workspace, run: str) -> View:
    home = workspace.catalog.home
    try:
        with workspace.catalog.read() as now:
            found = lineage_of(home, now, run)
            marks = run_marks(home, now, [link.run for link in found.links])
    except AmberError as error:
        return {"line": str(error), "lineage": None}
    return {"line": "", "lineage": lineage_view(found, marks)}
