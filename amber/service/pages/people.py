"""People who label: quality and throughput, the items that they are given, and disputes for leads to settle."""

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from amber.service.access import Served, Workspace, is_lead
from amber.service.facts.counted import Counted, Figure, Making
from amber.service.facts.people import assign, dispute_rows, people_rows, settle_dispute, week_rows
from amber.service.models.people import AssignedTo, DisputeRow, Settlement, WeekRow
from amber.service.pages.accounts import Account, LeadsPeople, Looks
from amber.service.pages.done_lines import done_line, see_done
from amber.service.pages.rendering import page
from amber.service.pages.typed_forms import parsed
from curation.errors import AmberError
from training.report.formatting import entry_view

__all__ = ["COUNTED", "router"]

router = APIRouter(include_in_schema=False)

SHOWN: Final = 50
"""Disputes of a page."""

WEEKS: Final = 12
"""Weeks of the table: the newest."""

COUNTED: Final[Mapping[str, Making]] = {"people": people_rows, "weeks": week_rows, "disputes": dispute_rows}


@router.get("/people")
def people(request: Request, account: Looks, workspace: Served) -> HTMLResponse:
    """Everybody's work, assignments, and what is disputed."""
    return _people(request, account, workspace)


@router.post("/people/assign")
def assign_items(
    request: Request, account: LeadsPeople, workspace: Served, once: Annotated[str, Form()],
    task: Annotated[str, Form()] = "", person: Annotated[str, Form()] = "", limit: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    """Give the items of a task to a person; the form again with what was typed where it is wrong."""
    typed = {"task": task, "person": person, "limit": limit}
    try:
        wish = parsed(AssignedTo, task=task, person=person.strip(), limit=limit.strip() or None, batch=once)
        done = assign(workspace, account.token, wish)
    except AmberError as error:
        return _people(request, account, workspace, typed=typed, assign_problem=str(error), status=409)
    most = {None: "any number of", 0: "no more"}.get(done.limit, f"at most {done.limit}")
    line = f"{done.person} gets {most} open items of {done.task}, from the next amber label push on."
    return see_done(request, "/people", line)


@router.post("/people/settle")
def settle(
    request: Request, account: LeadsPeople, workspace: Served, once: Annotated[str, Form()],
    task: Annotated[str, Form()], key: Annotated[str, Form()], value: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    """Settle a dispute; the form again with what was typed where the value does not fit."""
    try:
        wish = parsed(Settlement, task=task, key=key, value=value.strip(), batch=once)
        done = settle_dispute(workspace, account.token, wish)
    except AmberError as error:
        typed = {"task": task, "key": key, "value": value}
        return _people(request, account, workspace, settled=typed, problem=str(error), status=409)
    line = f"{done.task} of {done.key}: {done.value or 'none'}, settled by {done.by} in commit {done.commit}."
    return see_done(request, "/people", f"{line} amber revert {done.commit} opens the dispute again.")


def _people(
    request: Request, account: Account, workspace: Workspace, *, typed: Mapping[str, str] = {},
    assign_problem: str = "", settled: Mapping[str, str] = {}, problem: str = "", status: int = 200,
) -> HTMLResponse:  # fmt: skip
    """The page, with what was typed into its forms."""
    counted: Counted = request.app.state.counted
    with workspace.catalog.read() as now:
        tasks, commit = now.tasks(), now.commit
        limits, by_settling = now.people.assignments(), now.people.leads()
    figures = counted.figures(tuple(COUNTED), commit)
    task = request.query_params.get("task", "")
    disputed: list[DisputeRow] = [row for row in _value(figures["disputes"]) if task in ("", row.task)]
    weeks = _value(figures["weeks"])
    kept = sorted({row.week for row in weeks}, reverse=True)[:WEEKS]
    view = {
        "title": "People", "commit": commit, "figures": figures, "tasks": list(tasks), "task": task,
        "rows": [_shown(row) for row in _value(figures["people"])], "leads": by_settling,
        "weeks": [_shown(row) for row in weeks if row.week in kept], "limits": limits,
        "disputes": [{"row": row, "choices": _values(row, tasks)} for row in disputed[:SHOWN]],
        "more": len(disputed) - SHOWN,
        "lead": is_lead(workspace, account.token), "typed": {"task": "", "person": "", "limit": "", **typed},
        "assign_problem": assign_problem, "settled": {"task": "", "key": "", "value": "", **settled},
        "problem": problem, "done": done_line(request), "once": secrets.token_urlsafe(16),
    }  # fmt: skip
    return page(request, "people.html", view, account=account, status=status)


def _value(figure: Figure | None) -> list[Any]:
    return list(figure.value or ()) if figure else []


def _shown(row: WeekRow) -> dict[str, Any]:
    """A person's row with the shares as cells of a table."""
    shares = {name: {"metric": "share", **getattr(row, name).model_dump()} for name in ("gold", "agreement")}
    return {"row": row, **{name: entry_view(share) for name, share in shares.items()}}


def _values(row: DisputeRow, tasks: Mapping[str, Any]) -> list[str]:
    """The values that a lead may name: the people whose statements hold, then the classes, and inapplicable."""
    people, task = [each.annotator for each in row.statements], tasks[row.task]
    classes = () if task.kind == "detection" else task.classes
    return list(dict.fromkeys([*people, *classes, *(["inapplicable"] if task.kind != "detection" else [])]))
