"""Routes about plans and policies: what each task gets, who pays beside the plan before, and the policy in force."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from amber.service.access import Owner, Reader, Served
from amber.service.facts.last_counted import last_rows
from amber.service.facts.plans import plan_facts, plan_rows, policy_facts, signed_rows
from amber.service.facts.policy_changes import check_policy, save_policy
from amber.service.models.ledger import FAULTS
from amber.service.models.plans import (
    AccountLine,
    PlanFacts,
    PlanRow,
    PolicyAsked,
    PolicyChecked,
    PolicyFacts,
    PolicySaved,
    PolicyWish,
    SignedRow,
)
from amber.service.routes.tables_out import TABLES, Format, table_out

__all__ = ["router"]

router = APIRouter(prefix="/api", responses=FAULTS)

PlanName = Annotated[str, Path(pattern="^[0-9a-f]{4,32}$", description="a hash, or its beginning")]
Against = Annotated[str, Query(pattern="^([0-9a-f]{4,32})?$", description="default: the parent, or the plan before")]


@router.get("/plan-list", response_model=list[PlanRow], responses=TABLES)
def plan_list(token: Reader, workspace: Served, format: Format = "json") -> object:
    """The plans of the workspace, the newest first: when and by whom each was made, and of what."""
    with workspace.catalog.read() as now:
        rows = plan_rows(workspace.catalog.home, now)
    return table_out(rows, format, of=PlanRow)


@router.get("/plans/{plan}")
def plan(token: Reader, workspace: Served, plan: PlanName, against: Against = "") -> PlanFacts:
    """A plan: what each task gets, what fell against another plan, who signed it off, and what its runs drew."""
    with workspace.catalog.read() as now:
        return plan_facts(workspace.catalog.home, now, plan, against)


@router.get("/signed", response_model=list[SignedRow], responses=TABLES)
def signed(token: Reader, workspace: Served, format: Format = "json") -> object:
    """Recorded sign-offs, the newest first."""
    with workspace.catalog.read() as now:
        rows = signed_rows(workspace.catalog.home, now)
    return table_out(rows, format, of=SignedRow)


@router.get("/accounts", response_model=list[AccountLine], responses=TABLES)
def account_alarms(token: Reader, request: Request, workspace: Served, format: Format = "json") -> object:
    """Alarms of the accounts: tasks that fell under a plan or a run of somebody else, as last counted."""
    return table_out(last_rows(request, workspace, "accounts"), format, of=AccountLine)


@router.get("/policy")
def policy(token: Reader, workspace: Served) -> PolicyFacts:
    """The policy in force, as TOML."""
    with workspace.catalog.read() as now:
        return policy_facts(now)


@router.post("/policy/check")
def checked(token: Reader, workspace: Served, wish: PolicyWish) -> PolicyChecked:
    """Whether a text is a policy, and who gains and who pays by it; nothing is saved."""
    return check_policy(workspace, wish.text)


@router.post("/policy")
def put_policy(token: Owner, workspace: Served, asked: PolicyAsked) -> PolicySaved:
    """Put a policy in force, over the one that was read; sending the same batch again changes nothing."""
    return save_policy(workspace, token, asked)
