"""The route by which an owner signs a plan off: an act in the catalog, as `amber plan --sign OWNER` records it."""

from fastapi import APIRouter

from amber.service.access import AnyLabeler, Served, batch_of
from amber.service.models import FAULTS, SignedOff, SignOff
from curation.catalog.ownership import Identity
from curation.errors import NotFound
from samplers.plan.plan import Plan

__all__ = ["router"]

router = APIRouter(prefix="/api", responses=FAULTS)


@router.post("/sign-offs")
def sign_off(token: AnyLabeler, workspace: Served, signed: SignOff) -> SignedOff:
    """Accept for an owner what a plan takes from it, by the hashes that `amber plan` names when it refuses the plan.

    Only a token that is a member of the owner may; any token may, while the owner has no members.
    """
    before = Plan.open(workspace.catalog.home, signed.before).hash
    by, batch = Identity(name=token.name, via="token"), batch_of(token, signed.batch)
    message = f"sign off plan {signed.plan[:12]} for {signed.owner}"
    with workspace.catalog.commit(author=token.name, message=message, batch=batch) as change:
        if signed.owner not in {task.owner for task in change.now.tasks().values()}:
            raise NotFound("owner: owns no task; /api/tasks lists the owners")
        change.sign_off(signed.owner, plan=signed.plan, before=before, policy=signed.policy, by=by)
    return SignedOff(owner=signed.owner, by=str(by), commit=change.id)
