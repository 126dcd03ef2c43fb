"""Sign-offs: what waits for an owner, and the act by which it accepts, as `amber plan --sign OWNER` records it."""

from fastapi import APIRouter

from amber.service.access import AnyLabeler, Reader, Served, Workspace, batch_of
from amber.service.facts.plans import waiting_rows
from amber.service.models.ledger import FAULTS, SignedOff, SignOff
from amber.service.models.plans import WaitingRow
from amber.service.routes.tables_out import TABLES, Format, table_out
from amber.service.tokens import Token
from curation.catalog.ownership import Identity
from curation.errors import NotFound
from samplers.plan.plan import Plan

__all__ = ["record_sign_off", "router"]

router = APIRouter(prefix="/api", responses=FAULTS)


@router.get("/sign-offs", response_model=list[WaitingRow], responses=TABLES)
def waiting(token: Reader, workspace: Served, format: Format = "json") -> object:
    """Plans and releases that were refused, each with an owner whose sign-off is missing, the oldest first."""
    with workspace.catalog.read() as now:
        rows = waiting_rows(workspace.catalog.home, now)
    return table_out(rows, format, of=WaitingRow)


@router.post("/sign-offs")
def sign_off(token: AnyLabeler, workspace: Served, signed: SignOff) -> SignedOff:
    """Accept for an owner what a plan takes from it, by the hashes that `amber plan` names when it refuses the plan.

    Only a token that is a member of the owner may; any token may, while the owner has no members.
    """
    return record_sign_off(workspace, token, signed)


def record_sign_off(workspace: Workspace, token: Token, signed: SignOff) -> SignedOff:
    """Record a sign-off by a token; the same batch again changes nothing.

    BadInput when the owner has members, and the token is none of them; NotFound for an owner without a task and for a
    plan `before` that does not exist.
    """
    before = Plan.open(workspace.catalog.home, signed.before).hash
    by, batch = Identity(name=token.name, via="token"), batch_of(token, signed.batch)
    message = f"sign off plan {signed.plan[:12]} for {signed.owner}"
    with workspace.catalog.commit(author=token.name, message=message, batch=batch) as change:
        if signed.owner not in {task.owner for task in change.now.tasks().values()}:
            raise NotFound("owner: owns no task; /api/tasks lists the owners")
        change.sign_off(signed.owner, plan=signed.plan, before=before, policy=signed.policy, by=by)
    return SignedOff(owner=signed.owner, by=str(by), commit=change.id)
