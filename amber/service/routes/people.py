"""Routes about people who label: their work, the items that they are given, and disputes."""

from fastapi import APIRouter, Request

from amber.service.access import Lead, Reader, Served
from amber.service.facts.last_counted import last_rows
from amber.service.facts.people import assign, settle_dispute
from amber.service.models.ledger import FAULTS
from amber.service.models.people import (
    Assigned,
    AssignedTo,
    DisputeRow,
    PersonRow,
    Settled,
    Settlement,
    WeekRow,
)
from amber.service.routes.tables_out import TABLES, Format, table_out

__all__ = ["router"]

router = APIRouter(prefix="/api", responses=FAULTS)


@router.get("/people", response_model=list[PersonRow], responses=TABLES)
def people(token: Reader, request: Request, workspace: Served, format: Format = "json") -> object:
    """Each person's work and items, as last counted: answers, seconds, gold questions, agreement with others."""
    return table_out(last_rows(request, workspace, "people"), format, of=PersonRow)


@router.get("/people/weeks", response_model=list[WeekRow], responses=TABLES)
def weeks(token: Reader, request: Request, workspace: Served, format: Format = "json") -> object:
    """Each person's work by week, the newest week first, as last counted."""
    return table_out(last_rows(request, workspace, "weeks"), format, of=WeekRow)


@router.get("/disputes", response_model=list[DisputeRow], responses=TABLES)
def disputed(token: Reader, request: Request, workspace: Served, format: Format = "json") -> object:
    """Labels on which people disagree so that none holds, the oldest first, as last counted."""
    return table_out(last_rows(request, workspace, "disputes"), format, of=DisputeRow)


@router.post("/assignments")
def assign_items(token: Lead, workspace: Served, wish: AssignedTo) -> Assigned:
    """Give the items of a task to a person, from the next push on; for leads."""
    return assign(workspace, token, wish)


@router.post("/settlements")
def settle(token: Lead, workspace: Served, wish: Settlement) -> Settled:
    """Settle a dispute by a label of the token's owner; for leads."""
    return settle_dispute(workspace, token, wish)
