"""Routes for samples that somebody picked, in the App or elsewhere.

They request labels, set tags, mark doubts, return what the App would then show, and explain why a sample is drawn.
The token's owner is the author. With `preview` nothing is committed: the answer is what would be done.
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query

from amber.run_overlay import overlay_of
from amber.service.access import Labeler, ReadOrLabel, Served, batch_of
from amber.service.models import (
    FAULTS,
    Done,
    DoubtPicked,
    PickedSamples,
    ReasonRow,
    RequestPicked,
    Shown,
    ShownPicked,
    TagPicked,
)
from amber.service.tokens import Token
from curation.catalog.catalog import Catalog
from curation.catalog.commit import PendingCommit
from curation.catalog.snapshot import Snapshot
from curation.fiftyone_app.refresh import fields_of
from curation.requests.manual_requests import ManualRows, mark_state, request_labels, tag
from samplers.plan.explain import explain_draws
from samplers.plan.plan import Plan

__all__ = ["router"]

router = APIRouter(prefix="/api", responses=FAULTS)

PlanHash = Annotated[str, Query(pattern="^([0-9a-f]{4,64})?$", description="default: the one written last")]


@router.post("/picked/requests")
def request(token: Labeler, workspace: Served, wish: RequestPicked) -> Done:
    return _done(
        workspace.catalog, wish, token,
        lambda now: request_labels(now, wish.keys, wish.tasks, wish.reason),
        lambda change, found: change.add_requests(found.rows),
    )  # fmt: skip


@router.post("/picked/tags")
def set_tag(token: Labeler, workspace: Served, wish: TagPicked) -> Done:
    return _done(
        workspace.catalog, wish, token,
        lambda now: tag(now, wish.keys, wish.tag, on=wish.on),
        lambda change, found: change.add_attributes(found.rows),
    )  # fmt: skip


@router.post("/picked/doubts")
def cast_doubt(token: Labeler, workspace: Served, wish: DoubtPicked) -> Done:
    return _done(
        workspace.catalog, wish, token,
        lambda now: mark_state(now, wish.keys, wish.task, wish.state, annotator=token.name),
        lambda change, found: change.add_labels(found.rows, source="human"),
    )  # fmt: skip


@router.post("/picked/shown")
def shown(token: ReadOrLabel, workspace: Served, asked: ShownPicked) -> Shown:
    catalog = workspace.catalog
    with catalog.read(asked.commit) as now:
        scene = overlay_of(catalog.home, now, asked.run, asked.against)
        return Shown(commit=now.commit, samples=fields_of(now, asked.keys, scene))


@router.get("/why/{key:path}")
def reasons(
    token: ReadOrLabel, workspace: Served, key: Annotated[str, Path(max_length=500)], plan: PlanHash = ""
) -> list[ReasonRow]:
    home = workspace.catalog.home
    found = Plan.open(home, plan) if plan else Plan.newest(home)
    return [ReasonRow(plan=found.hash, **vars(row)) for row in explain_draws(found, key)]


def _done(
    catalog: Catalog,
    wish: PickedSamples,
    token: Token,
    find: Callable[[Snapshot], ManualRows],
    add: Callable[[PendingCommit, ManualRows], object],
) -> Done:
    """Do what `find` returns: `add` commits it, unless it is empty, a preview, or a batch that was committed before."""
    with catalog.read() as now:
        found = find(now)
    commit = None
    if len(found.rows) and not wish.preview:
        batch = batch_of(token, wish.batch)
        with catalog.commit(author=token.name, message=wish.commit_message(), batch=batch) as change:
            found = ManualRows(rows=found.rows.slice(0, 0)) if change.repeated else find(change.now)
            add(change, found)
        commit = change.id
    return Done(
        author=token.name,
        done=len(found.rows),
        passed_over=dict(found.passed_over),
        noted=dict(found.noted),
        commit=commit,
    )
