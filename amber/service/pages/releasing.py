"""Releases: which run is deployed, a release with its gate in the background, signing for an owner, and going back."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from amber.service.access import Served, Workspace
from amber.service.facts.plans import waiting_rows
from amber.service.facts.run_work import RunWork, Works
from amber.service.pages.accounts import Account, Labels, Leads, Looks, Owns
from amber.service.pages.compare import EXAMPLE, rules_of
from amber.service.pages.done_lines import done_line, see_done
from amber.service.pages.rendering import page, see
from amber.service.pages.waiting import waiting_view
from amber.service.routes.releases import begin_release, released, return_back, sign_release_of, sign_waiting_of
from curation.errors import AmberError, BadInput
from samplers.plan.plan import Plan
from training.run import Run
from training.run_list import run_entry

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

View = dict[str, Any]


@router.get("/releases")
def releases(request: Request, account: Looks, workspace: Served, work: Works) -> HTMLResponse:
    """All releases, the deployed run, and the release that goes on."""
    return _releases(request, account, workspace, work)


@router.post("/releases/sign")
def sign_waiting(
    request: Request, account: Owns, workspace: Served, work: Works, run: Annotated[str, Form()],
    owner: Annotated[str, Form()], rules: Annotated[str, Form()], once: Annotated[str, Form()],
    before: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    """Sign a release that waits off for an owner, by the hash of its rules."""
    try:
        done = sign_waiting_of(workspace, account.token, (run, before, rules), owner, batch=once)
    except AmberError as error:
        return _releases(request, account, workspace, work, line=str(error), status=409)
    line = f"{done.by} signed the release of run {run[:12]} off for {owner}. Release it again by the same rules."
    return see_done(request, "/releases", line)


@router.post("/releases/back")
def back(
    request: Request, account: Leads, workspace: Served, work: Works, deployed: Annotated[str, Form()] = ""
) -> Response:
    """Deploy the release before again."""
    try:
        done = return_back(workspace.catalog, deployed, by=account.identity)
    except AmberError as error:
        return _releases(request, account, workspace, work, line=str(error), status=409)
    return see_done(request, "/releases", f"Run {done.run[:12]} is deployed again, in place of {done.before[:12]}.")


@router.get("/runs/{run}/release")
def form(request: Request, account: Looks, workspace: Served, work: Works, run: str) -> HTMLResponse:
    """The form that releases a run, and how far its release is."""
    return page(request, "release.html", _form(workspace, work, run), account=account)


@router.post("/runs/{run}/release")
def release(
    request: Request, account: Leads, workspace: Served, work: Works, run: str, rules: Annotated[str, Form()] = "",
    against: Annotated[str, Form()] = "", notes: Annotated[str, Form(max_length=20_000)] = "",
    file: UploadFile | None = None,
) -> Response:  # fmt: skip
    """Begin to release a run."""
    text = rules
    try:
        text = rules_of(rules, file)
        begin_release(work, run, text, by=account.identity, against=against, notes=notes)
    except AmberError as error:
        typed = {"rules": text, "against": against, "notes": notes, "line": str(error)}
        return _again(request, account, workspace, work, run, typed)
    return see(request, f"/runs/{_id(workspace, run)}/release")


@router.post("/runs/{run}/release/sign")
def sign(
    request: Request, account: Labels, workspace: Served, work: Works, run: str, rules: Annotated[str, Form()] = "",
    owner: Annotated[str, Form()] = "", against: Annotated[str, Form()] = "", file: UploadFile | None = None,
) -> Response:  # fmt: skip
    """Accept a release for an owner whose tasks the rules leave out."""
    text = rules
    try:
        text = rules_of(rules, file)
        if not owner:
            raise BadInput("owner: name the owner for whom you sign")
        id_, before = sign_release_of(workspace.catalog, run, text, owner, by=account.identity, against=against)
    except AmberError as error:
        typed = {"rules": text, "owner": owner, "against": against, "line": str(error)}
        return _again(request, account, workspace, work, run, typed)
    done = f"{owner} accepts the release of {id_[:12]} in place of {before[:12] or 'none'}, under these rules."
    view = _form(workspace, work, run) | {"rules": text, "against": against, "done": done}
    return page(request, "release.html", view, account=account)


def _again(
    request: Request, account: Account, workspace: Workspace, work: RunWork, run: str, typed: View
) -> HTMLResponse:
    """The form with everything that was typed, and one line."""
    return page(request, "release.html", _form(workspace, work, run) | typed, account=account, status=409)


def _releases(
    request: Request, account: Account, workspace: Workspace, work: RunWork, *, line: str = "", status: int = 200
) -> HTMLResponse:
    """The page of all releases, with the line that says why something was not done."""
    found = released(workspace, work)
    with workspace.catalog.read() as now:
        waits, commit = [row for row in waiting_rows(workspace.catalog.home, now) if row.what == "release"], now.commit
    view = {
        "title": "Releases", "rows": [row.model_dump() for row in found.releases], "deployed": found.deployed,
        "work": work.releasing.now, "line": line, "done": done_line(request), "here": "/releases", "commit": commit,
        **waiting_view(waits, account),
    }  # fmt: skip
    return page(request, "releases.html", view, account=account, status=status)


def _form(workspace: Workspace, work: RunWork, run: str) -> View:
    """The form of a run, with what was typed for its last release unless that was released; NotFound for no run."""
    home = workspace.catalog.home
    with workspace.catalog.read() as now:
        entry = run_entry(home, now, run)
        owners = sorted({task.owner for task in now.tasks().values()})
        waits = [row.owner for row in waiting_rows(home, now) if (row.what, row.subject) == ("release", entry.run)]
    found, going = released(workspace, work), work.releasing.now
    tasks = _tasks(home, entry.run)
    example = "\n".join(EXAMPLE.replace("TASK", name).replace(', "*"', "") + 'floor = "50 points"\n' for name in tasks)
    return {
        "title": f"Release run {entry.run[:12]}", "run": entry.run, "listed": entry, "deployed": found.deployed,
        "work": going, "rules": example, "against": "", "notes": "", "owner": "", "owners": owners,
        "waits": list(dict.fromkeys(waits)), "line": "", "done": "", "here": f"/runs/{entry.run}/release",
        **(going.asked if going and going.run == entry.run and going.outcome != "released" else {}),
    }  # fmt: skip


def _tasks(home: Path, run: str) -> list[str]:
    """The tasks of a run that Amber trained, whose margins are in points."""
    if not (home / "runs" / run / "run.json").is_file():
        return []
    return [part.name for part in Plan.open(home, Run.open(home, run).plan).tasks if part.task.kind != "regression"]


def _id(workspace: Workspace, run: str) -> str:
    with workspace.catalog.read() as now:
        return now.runs.full_id(run)
