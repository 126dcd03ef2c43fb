"""The log: commits by author, task and slice, what each changed, and undoing one."""

import secrets
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Path, Request
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from amber.service.access import Served, Workspace, batch_of
from amber.service.facts.changes import changes, revert, reverting
from amber.service.facts.run_work import RunWork, Works
from amber.service.made import Asked
from amber.service.models.log import CommitRow
from amber.service.pages.accounts import Account, Leads, Looks
from amber.service.pages.rendering import page, see
from amber.service.routes.log import commit_rows, log_page
from curation.errors import AmberError

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

View = dict[str, Any]

LIMIT: Final = 40
"""Commits of a page."""

SHOWN: Final = 200
"""Rows of changed labels that a page shows."""

Number = Annotated[int, Path(ge=1, le=2**53)]


@router.get("/log")
def log(
    request: Request, account: Looks, workspace: Served, author: str = "", task: str = "", slice: str = "",
    before: int = 0,
) -> HTMLResponse:  # fmt: skip
    """Commits, the newest first; `before` is the last commit of the page before."""
    line = ""
    with workspace.catalog.read() as now:
        rows, more = [], None
        try:
            found = log_page(now, (before,) if before else (), limit=LIMIT, author=author, task=task, slice=slice)
            rows, more = commit_rows(now, found.rows.to_pylist()), found.next
        except AmberError as error:
            line = str(error)
        view = {
            "title": "Log", "rows": [_shown(row) for row in rows], "more": more[0] if more else None,
            "author": author, "task": task, "slice": slice, "authors": now.log.authors(), "tasks": list(now.tasks()),
            "slices": list(now.slices()), "first": not before, "line": line, "commit": now.commit,
        }  # fmt: skip
    return page(request, "log.html", view, account=account, status=404 if line else 200)


@router.get("/log/{commit}")
def commit(
    request: Request, account: Looks, workspace: Served, work: Works, commit: Number, undid: int = 0
) -> HTMLResponse:
    """One commit and what it changed; `undid` names the commit that it was just made to undo."""
    view = _commit(workspace, commit) | _changes(workspace, work, commit) | {"undid": undid}
    return page(request, "commit.html", view, account=account)


@router.get("/log/{commit}/revert")
def ask_revert(request: Request, account: Looks, workspace: Served, work: Works, commit: Number) -> HTMLResponse:
    """What a revert of a commit would undo, and the form that does it."""
    return _revert_page(request, account, workspace, work, commit)


@router.post("/log/{commit}/revert")
def do_revert(
    request: Request, account: Leads, workspace: Served, work: Works, commit: Number, once: Annotated[str, Form()] = ""
) -> Response:
    """Undo a commit by a new one."""
    batch = batch_of(account.token, f"revert:{commit}:{once[:64]}")
    try:
        done = revert(workspace.catalog, commit, by=account.identity, author=account.name, batch=batch)
    except AmberError as error:
        return _revert_page(request, account, workspace, work, commit, line=str(error))
    return see(request, f"/log/{done.made}?undid={commit}")


def _revert_page(
    request: Request, account: Account, workspace: Workspace, work: RunWork, commit: int, *, line: str = ""
) -> HTMLResponse:
    view = _commit(workspace, commit)
    asked = Asked(ready=True)
    if account.may("admin"):
        asked = work.ask(*reverting(workspace.catalog, commit, by=account.identity, author=account.name))
    problem = line or (str(asked.error) if asked.error else "")
    view |= {
        "title": f"Revert commit {commit}", "asked": asked, "undone": asked.value, "line": problem,
        "once": secrets.token_urlsafe(12),
    }  # fmt: skip
    return page(request, "revert.html", view, account=account, status=409 if problem else 200)


def _commit(workspace: Workspace, commit: int) -> View:
    """One commit; NotFound when there is none."""
    with workspace.catalog.read() as now:
        row = _shown(commit_rows(now, [now.log.commit(commit)])[0])
        newest = now.commit
    return {"title": f"Commit {commit}", "commit": row, "newest": newest}


def _shown(row: CommitRow) -> View:
    """A commit for a template, its time without a zone, which is UTC."""
    return {**row.model_dump(), "at": row.at.replace(tzinfo=None)}


def _changes(workspace: Workspace, work: RunWork, commit: int) -> View:
    """What the commit changed, once it is known."""
    asked = work.ask(*changes(workspace.catalog, commit))
    if asked.error or not asked.ready:
        return {"asked": asked, "line": str(asked.error) if asked.error else "", "changed": None, "unshown": 0}
    labels = asked.value["labels"]
    return {
        "asked": asked, "line": "", "changed": {**asked.value, "labels": labels[:SHOWN]},
        "unshown": max(0, len(labels) - SHOWN),
    }  # fmt: skip
