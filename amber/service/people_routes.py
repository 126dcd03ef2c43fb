"""Routes about people who label: their work, the items that they are given, and disputes."""

from typing import Any

from fastapi import APIRouter, Request

from amber.service.access import Lead, Reader, Served, Workspace
from amber.service.models import FAULTS
from amber.service.pages.counted import Counted
from amber.service.people_facts import assign, settle_dispute
from amber.service.people_models import (
    Assigned,
    AssignedTo,
    DisputeRow,
    PersonRow,
    Settled,
    Settlement,
    WeekRow,
)
from amber.service.tables_out import TABLES, Format, table_out

__all__ = ["router"]

router = APIRouter(prefix="/api", responses=FAULTS)


@router.get("/people", response_model=list[PersonRow], responses=TABLES)
def people(token: Reader, request: Request, workspace: Served, format: Format = "json") -> object:
    """Each person's work and items, as last counted: answers, seconds, gold questions, agreement with others."""
    return table_out(_counted(request, workspace, "people"), format, of=PersonRow)


@router.get("/people/weeks", response_model=list[WeekRow], responses=TABLES)
def weeks(token: Reader, request: Request, workspace: Served, format: Format = "json") -> object:
    """Each person's work by week, the newest week first, as last counted."""
    return table_out(_counted(request, workspace, "weeks"), format, of=WeekRow)


@router.get("/disputes", response_model=list[DisputeRow], responses=TABLES)
def disputed(token: Reader, request: Request, workspace: Served, format: Format = "json") -> object:
    """Labels on which people disagree so that none holds, the oldest first, as last counted."""
    return table_out(_counted(request, workspace, "disputes"), format, of=DisputeRow)


@router.post("/assignments")
def assign_items(token: Lead, workspace: Served, wish: AssignedTo) -> Assigned:
    """Give the items of a task to a person, from the next push on; for leads."""
    return assign(workspace, token, wish)


@router.post("/settlements")
def settle(token: Lead, workspace: Served, wish: Settlement) -> Settled:
    """Settle a dispute by a label of the token's owner; for leads."""
    return settle_dispute(workspace, token, wish)


def _counted(request: Request, workspace: Workspace, name: str) -> Any:
    """What was counted last; nothing while it is counted for the first time."""
    counted: Counted = request.app.state.counted
    with workspace.catalog.read() as now:
        commit = now.commit
    figure = counted.figures((name,), commit)[name]
    return figure.value or [] if figure else []
