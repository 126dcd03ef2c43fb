"""Routes for samples that somebody picked, in the App or elsewhere.

They request labels, set tags, mark doubts, return what the App would then show, and explain why a sample is drawn.
The token's owner is the author. With `preview` nothing is committed: the answer is what would be done.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from amber.run_overlay import overlay_of
from amber.service.access import Labeler, ReadOrLabel, Served
from amber.service.facts.picking import pick
from amber.service.models.ledger import (
    FAULTS,
    Done,
    DoubtPicked,
    ReasonRow,
    RequestPicked,
    Shown,
    ShownPicked,
    TagPicked,
)
from amber.service.routes.tables_out import TABLES, Format, table_out
from curation.fiftyone_app.refresh import fields_of
from samplers.plan.explain import explain_draws
from samplers.plan.plan import Plan

__all__ = ["router"]

router = APIRouter(prefix="/api", responses=FAULTS)

PlanHash = Annotated[str, Query(pattern="^([0-9a-f]{4,64})?$", description="default: the one written last")]


@router.post("/picked/requests")
def request(token: Labeler, workspace: Served, wish: RequestPicked) -> Done:
    return pick(workspace.catalog, wish, token)


@router.post("/picked/tags")
def set_tag(token: Labeler, workspace: Served, wish: TagPicked) -> Done:
    return pick(workspace.catalog, wish, token)


@router.post("/picked/doubts")
def cast_doubt(token: Labeler, workspace: Served, wish: DoubtPicked) -> Done:
    return pick(workspace.catalog, wish, token)


@router.post("/picked/shown")
def shown(token: ReadOrLabel, workspace: Served, asked: ShownPicked) -> Shown:
    catalog = workspace.catalog
    with catalog.read(asked.commit) as now:
        scene = overlay_of(catalog.home, now, asked.run, asked.against)
        return Shown(commit=now.commit, samples=fields_of(now, asked.keys, scene))


@router.get("/why/{key:path}", response_model=list[ReasonRow], responses=TABLES)
def reasons(
    token: ReadOrLabel, workspace: Served, key: Annotated[str, Path(max_length=500)], plan: PlanHash = "",
    format: Format = "json",
) -> object:  # fmt: skip
    home = workspace.catalog.home
    found = Plan.open(home, plan) if plan else Plan.newest(home)
    rows = [ReasonRow(plan=found.hash, **vars(row)) for row in explain_draws(found, key)]
    return table_out(rows, format, of=ReasonRow)
