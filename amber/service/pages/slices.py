"""Slices: how large each is and how it fares; what a predicate would hold, and declaring one."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from amber.service.access import Served, Workspace
from amber.service.facts.counted import Counted, Making
from amber.service.facts.slice_declaration import declare_slice, preview_slice
from amber.service.facts.slice_table import PARTS, SliceRowView, gate_outcomes, slice_rows, slice_sizes
from amber.service.facts.trends import spark
from amber.service.models.slices import NewSlice, SlicePreview
from amber.service.pages.accounts import Account, Labels, Looks
from amber.service.pages.done_lines import done_line, see_done
from amber.service.pages.picked import new_once
from amber.service.pages.rendering import page
from curation.errors import AmberError
from training.judging.gate_decisions import gate_decisions
from training.report.formatting import plain_text

__all__ = ["COUNTED", "MAY_LABEL", "router"]

router = APIRouter(include_in_schema=False)

COUNTED: Final[Mapping[str, Making]] = {"slice sizes": slice_sizes}

MAY_LABEL: Final = ("label", "owner", "admin")
"""Scopes of tokens that may declare slices, ask for labels and tag, as `accounts.Labels` has it."""

HEADS: Final = (("slice", "name", True), ("images", "size", False), ("figure on test", "error", False))
"""Columns by which the table can be sorted: words, the parameter, and whether they stand on the left."""

Text = Annotated[str, Query(max_length=10_000)]


class Typed(BaseModel):
    """What somebody typed into the form."""

    name: str = ""
    predicate: str = ""
    task: str = ""
    rare: bool = False
    replace: bool = False


@router.get("/slices")
def slices(
    request: Request, account: Looks, workspace: Served, name: Text = "", predicate: Text = "", task: Text = "",
    rare: bool = False, replace: bool = False, sort: Text = "", columns: bool = False,
) -> HTMLResponse:  # fmt: skip
    """All slices, and the form; a predicate in the address is shown with what it would hold."""
    typed = Typed(name=name, predicate=predicate.strip(), task=task, rare=rare, replace=replace)
    return _page(request, account, workspace, typed, sort=sort, columns=columns)


@router.post("/slices")
async def read_form(request: Request, account: Labels, workspace: Served) -> Response:
    """Declare a slice."""
    form = {name: str(text) for name, text in (await request.form()).items()}
    return await run_in_threadpool(_declare, request, account, workspace, form)


@router.get("/preview-slice")
def preview(request: Request, account: Looks, workspace: Served, predicate: Text = "", task: Text = "") -> HTMLResponse:
    """What a predicate would hold, as it is typed."""
    found, problem = _previewed(workspace, predicate.strip(), task)
    view = {"title": "Preview", "preview": found, "problem": problem, "run_problem": ""}
    return page(request, "slice_preview.html", view, account=account)


def _declare(request: Request, account: Account, workspace: Workspace, form: Mapping[str, str]) -> Response:
    words = {name: form.get(name, "").strip() for name in ("name", "predicate", "task")}
    typed = Typed(**words, rare=form.get("rare") == "1", replace=form.get("replace") == "1")
    batch = f"slice:{form.get('once') or new_once()}"
    try:
        wanted = NewSlice(**typed.model_dump(), batch=batch)
        made = declare_slice(workspace.catalog, wanted, account.token)
    except ValidationError as error:
        row = error.errors()[0]
        problem = f"{row['loc'][-1]}: {row['msg'].lower()}; correct it"
        return _page(request, account, workspace, typed, problem=problem, once=form.get("once", ""))
    except AmberError as error:
        return _page(request, account, workspace, typed, problem=str(error), once=form.get("once", ""))
    return see_done(request, f"/slices/{made.name}", f"Slice {made.name} is declared: {made.predicate}")


def _page(
    request: Request, account: Account, workspace: Workspace, typed: Typed, *, problem: str = "", once: str = "",
    sort: str = "", columns: bool = False,
) -> HTMLResponse:  # fmt: skip
    counted: Counted = request.app.state.counted
    home = workspace.catalog.home
    with workspace.catalog.read() as now:
        declared, tasks, commit = now.slices(), list(now.tasks()), now.commit
        families = now.frame().families if columns else {}
        gate_run, gates = gate_outcomes(home, now)
        decision = next(reversed(gate_decisions(now)), None)
    figures = counted.figures(PARTS, commit)
    found, unsound = (None, "") if problem else _previewed(workspace, typed.predicate, typed.task)
    view = {
        "title": "Slices", "rows": _sorted(slice_rows(declared, figures, gates), sort), "sort": sort, "heads": HEADS,
        "commit": commit, "figures": figures, "spark": spark, "tasks": tasks, "typed": typed, "problem": problem,
        "preview": found, "preview_problem": unsound, "once": once or new_once(), "may": account.may(*MAY_LABEL),
        "gate_run": gate_run, "decision": decision, "done": done_line(request), "path": "/slices",
        "columns": [(family, sorted(names)) for family, names in families.items() if names],
    }  # fmt: skip
    return page(request, "slices.html", view, account=account, status=409 if problem else 200)


def _previewed(workspace: Workspace, predicate: str, task: str) -> tuple[SlicePreview | None, str]:
    """What a predicate would hold, or the line that says which part of it fails; neither for no predicate."""
    try:
        return (preview_slice(workspace, predicate, task) if predicate else None), ""
    except AmberError as error:
        return None, str(error)


def _sorted(rows: list[SliceRowView], by: str) -> list[dict[str, Any]]:
    """The rows in the order of the table, with the predicate as a person writes it."""
    match by:
        case "name":
            rows = sorted(rows, key=lambda row: row.slice.name)
        case "size":
            rows = sorted(rows, key=lambda row: -(row.slice.samples or 0))
        case "error":
            rows = sorted(rows, key=lambda row: -(row.trend.error if row.trend and row.trend.metric != "mae" else -1.0))
    return [{"slice": row.slice, "trend": row.trend, "predicate": plain_text(row.slice.predicate)} for row in rows]
