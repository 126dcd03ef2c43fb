"""The policy in force, edited: checked with the effects shown, and saved over the one that was read."""

import difflib
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from amber.service.access import Served, Workspace
from amber.service.facts.plans import policy_facts
from amber.service.facts.policy_changes import check_policy, newest_text, save_policy
from amber.service.models.plans import PolicyAsked, PolicyChecked, PolicyWish
from amber.service.pages.accounts import Account, Looks, Owns, Sends
from amber.service.pages.done_lines import see_done
from amber.service.pages.rendering import page
from amber.service.pages.typed_forms import parsed
from curation.errors import AmberError

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

Typed = Annotated[str, Form()]


@router.get("/plans/policy")
def edit(request: Request, account: Looks, workspace: Served) -> HTMLResponse:
    """The form with the policy in force, or with one to begin with."""
    with workspace.catalog.read() as now:
        facts, text = policy_facts(now), newest_text(now, workspace.catalog.home)
    return _form(request, account, workspace, text, facts.policy)


@router.post("/plans/policy/check")
def check(request: Request, account: Sends, workspace: Served, text: Typed = "", read: Typed = "") -> HTMLResponse:
    """The same form with what was typed, its faults, and who gains and who pays."""
    text = _lines(text)
    try:
        checked = check_policy(workspace, parsed(PolicyWish, text=text).text)
    except AmberError as error:
        return _form(request, account, workspace, text, read, problem=str(error))
    return _form(request, account, workspace, text, read, checked=checked)


@router.post("/plans/policy")
def save(
    request: Request, account: Owns, workspace: Served, once: Typed, text: Typed = "", read: Typed = ""
) -> Response:
    """Put what was typed in force; the form again where it has faults, or where another policy is in force by now."""
    text = _lines(text)
    try:
        done = save_policy(workspace, account.token, parsed(PolicyAsked, text=text, read=read, batch=once))
    except AmberError as error:
        return _refused(request, account, workspace, text, read, str(error))
    return see_done(
        request, "/plans", f"Policy {done.policy[:12]} is in force, set by {done.by} in commit {done.commit}."
    )


def _refused(
    request: Request, account: Account, workspace: Workspace, text: str, read: str, problem: str
) -> HTMLResponse:
    """The form again with everything typed: beside the policy that came in force meanwhile, or with its faults."""
    with workspace.catalog.read() as now:
        newest = policy_facts(now)
    if newest.policy != read:
        return _form(request, account, workspace, text, newest.policy, problem=problem, theirs=newest, status=409)
    checked = check_policy(workspace, text)
    return _form(request, account, workspace, text, read, problem=problem, checked=checked, status=409)


def _form(
    request: Request, account: Account, workspace: Workspace, text: str, read: str, *, problem: str = "",
    checked: PolicyChecked | None = None, theirs: Any = None, status: int = 200,
) -> HTMLResponse:  # fmt: skip
    lines = text.splitlines()
    faults = [
        {"text": fault.text, "lines": [(number, lines[number - 1]) for number in fault.lines if number <= len(lines)]}
        for fault in (checked.faults if checked else [])
    ]
    before = theirs.text.splitlines() if theirs else []
    differences = difflib.unified_diff(before, lines, "in force", "yours", n=2, lineterm="")
    view = {
        "title": "Policy", "text": text, "read": read, "problem": problem, "checked": checked, "faults": faults,
        "theirs": theirs, "diff": "\n".join(differences) if theirs else "", "once": secrets.token_urlsafe(16),
        "owns": account.may("owner"), "rows": min(40, max(14, len(lines) + 3)),
    }  # fmt: skip
    return page(request, "policy.html", view, account=account, status=status)


def _lines(text: str) -> str:
    """What a browser sent, with the line ends of this machine."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
