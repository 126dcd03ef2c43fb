"""Plans: the policy in force, what waits for an owner, what each task gets, and who pays beside the plan before."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request
from fastapi import Path as PathOf
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from amber.service.access import Served, Workspace
from amber.service.facts.counted import Counted, Making
from amber.service.facts.plans import (
    outcomes_of,
    plan_before,
    plan_facts,
    plan_rows,
    policy_facts,
    shifts_of,
    signed_rows,
    waiting_rows,
)
from amber.service.models.ledger import SignOff
from amber.service.models.plans import AccountLine
from amber.service.pages.accounts import Account, Looks, Owns
from amber.service.pages.done_lines import done_line, see_done
from amber.service.pages.rendering import page
from amber.service.pages.typed_forms import parsed
from amber.service.pages.waiting import waiting_view
from amber.service.routes.sign_offs import record_sign_off
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, NotFound
from samplers.plan.plan_list import list_plans
from training.dynamics.accounts import accounts

__all__ = ["COUNTED", "router"]

router = APIRouter(include_in_schema=False)

SHOWN: Final = 50
"""Plans of the list, and sign-offs."""

WARM: Final = 10
"""Plans whose figures are computed before somebody asks: the newest."""


def _warm(now: Snapshot, home: Path) -> int:
    """Compute the figures of the newest plans, which are kept; returns of how many."""
    rows = plan_rows(home, now)
    usable = [row for row in rows if not row.withdrawn][:WARM]
    for row in usable:
        outcomes_of(home, row.plan)
        if before := plan_before(rows, row):
            shifts_of(home, now, row.plan, before)
    return len(usable)


class _KeptAlarms:
    """The alarms of the accounts, computed again only when plans, runs, sign-offs or owners changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[Any, list[AccountLine]]] = {}

    def __call__(self, now: Snapshot, home: Path) -> list[AccountLine]:
        entries = list_plans(home, now)
        runs = [(row["run"], row["commit_id"]) for row in now.runs().to_pylist()]
        owners = {name: task.owner for name, task in now.tasks().items()}
        state = (entries, runs, owners, now.ownership.members(), len(now.ownership.acts()))
        if home not in self._known or self._known[home][0] != state:
            found = accounts(now, home).alarms if any(not entry.withdrawn for entry in entries) else ()
            lines = [
                AccountLine.model_validate({**asdict(alarm), "gained": list(alarm.gained)}) for alarm in reversed(found)
            ]
            self._known[home] = state, lines
        return self._known[home][1]


COUNTED: Final[Mapping[str, Making]] = {"plan_figures": _warm, "accounts": _KeptAlarms()}


@router.get("/plans")
def plans(request: Request, account: Looks, workspace: Served) -> HTMLResponse:
    """The policy in force, what waits, the newest plan, and all plans."""
    return _plans(request, account, workspace)


@router.post("/plans/sign")
def sign(
    request: Request, account: Owns, workspace: Served, owner: Annotated[str, Form()], plan: Annotated[str, Form()],
    before: Annotated[str, Form()], policy: Annotated[str, Form()], once: Annotated[str, Form()],
) -> Response:  # fmt: skip
    """Sign a plan off for an owner; the catalog decides whether the account may."""
    try:
        signed = parsed(SignOff, owner=owner, plan=plan, before=before, policy=policy, batch=once)
        done = record_sign_off(workspace, account.token, signed)
    except (BadInput, NotFound) as error:
        return _plans(request, account, workspace, problem=str(error), status=409)
    line = f"{done.by} signed plan {plan[:12]} off for {done.owner}, in commit {done.commit}."
    return see_done(request, "/plans", f"{line} The same amber plan now succeeds, once all who lose have signed.")


@router.get("/plans/{plan}")
def plan(
    request: Request, account: Looks, workspace: Served, plan: Annotated[str, PathOf(max_length=64)], against: str = ""
) -> HTMLResponse:
    """One plan: what each task gets and who pays beside the plan before or `against`, sign-offs, and its runs."""
    home = workspace.catalog.home
    with workspace.catalog.read() as now:
        facts, rows, commit = plan_facts(home, now, plan, against), plan_rows(home, now), now.commit
        waits = [row for row in waiting_rows(home, now) if facts.row.plan in (row.subject, row.before)]
    shifts = {row.task: row for row in facts.shifts}
    view = {
        "title": f"Plan {facts.row.plan[:12]}", "facts": facts, "shifts": shifts, "commit": commit, "waits": waits,
        "others": [row for row in rows if not row.withdrawn and row.plan != facts.row.plan][:SHOWN],
        "pays": [row for row in facts.shifts if row.lowered],
    }  # fmt: skip
    return page(request, "plan.html", view, account=account)


def _plans(
    request: Request, account: Account, workspace: Workspace, *, problem: str = "", status: int = 200
) -> HTMLResponse:
    """The page of all plans, with the line that says why something was not done."""
    counted: Counted = request.app.state.counted
    home = workspace.catalog.home
    with workspace.catalog.read() as now:
        policy, rows, waits = policy_facts(now), plan_rows(home, now), waiting_rows(home, now)
        newest = next((row for row in rows if not row.withdrawn and not row.derived), None)
        facts = plan_facts(home, now, newest.plan) if newest else None
        signed, commit = signed_rows(home, now)[:SHOWN], now.commit
    figures = counted.figures(("accounts",), commit)
    view = {
        "title": "Plans", "policy": policy, "rows": rows[:SHOWN], "more": len(rows) - SHOWN,
        **waiting_view(waits, account),
        "facts": facts, "shifts": {row.task: row for row in facts.shifts} if facts else {}, "signed": signed,
        "commit": commit, "figures": figures, "alarms": (figures["accounts"].value if figures["accounts"] else None),
        "problem": problem, "done": done_line(request), "owns": account.may("owner"),
    }  # fmt: skip
    return page(request, "plans.html", view, account=account, status=status)
