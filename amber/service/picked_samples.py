"""Routes for samples that somebody picked, in the App or elsewhere: ask, tag, doubt, what the App then
shows, and why one is drawn.

Whoever holds the token is the author. With `preview` nothing is committed: the answer is what would be done.
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query

from amber.run_overlay import scene_of
from amber.service.middleware import allowed
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
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.catalog.commit import PendingCommit
from curation.catalog.snapshot import Snapshot
from curation.fiftyone_app.refresh import fields_of
from curation.requests.manual_requests import Picked, ask, doubt, tag
from samplers.plan.explain import explain_draws
from samplers.plan.plan import Plan

__all__ = ["picking_router"]

PlanHash = Annotated[str, Query(pattern="^([0-9a-f]{4,64})?$", description="default: the one written last")]


def picking_router(catalog: Catalog, tokens: Tokens) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/api", responses=FAULTS)
    label, either = allowed(tokens, "label"), allowed(tokens, "read", "label")

    @router.post("/picked/requests")
    def request(token: label, wish: RequestPicked) -> Done:  # type: ignore[valid-type]
        return _done(
            catalog, wish, token.name,  # type: ignore[attr-defined]
            lambda now: ask(now, wish.keys, wish.tasks, wish.reason),
            lambda change, found: change.add_requests(found.rows),
        )  # fmt: skip

    @router.post("/picked/tags")
    def set_tag(token: label, wish: TagPicked) -> Done:  # type: ignore[valid-type]
        return _done(
            catalog, wish, token.name,  # type: ignore[attr-defined]
            lambda now: tag(now, wish.keys, wish.tag, on=wish.on),
            lambda change, found: change.add_attributes(found.rows),
        )  # fmt: skip

    @router.post("/picked/doubts")
    def cast_doubt(token: label, wish: DoubtPicked) -> Done:  # type: ignore[valid-type]
        author = token.name  # type: ignore[attr-defined]
        return _done(
            catalog, wish, author,
            lambda now: doubt(now, wish.keys, wish.task, wish.state, annotator=author),
            lambda change, found: change.add_labels(found.rows, source="human"),
        )  # fmt: skip

    @router.post("/picked/shown")
    def shown(token: either, asked: ShownPicked) -> Shown:  # type: ignore[valid-type]
        with catalog.read(asked.commit) as now:
            scene = scene_of(catalog.home, now, asked.run, asked.against)
            return Shown(commit=now.commit, samples=fields_of(now, asked.keys, scene))

    @router.get("/why/{key:path}")
    def reasons(token: either, key: Annotated[str, Path(max_length=500)], plan: PlanHash = "") -> list[ReasonRow]:  # type: ignore[valid-type]
        found = Plan.open(catalog.home, plan) if plan else Plan.newest(catalog.home)
        return [ReasonRow(plan=found.hash, **vars(row)) for row in explain_draws(found, key)]

    return router


def _done(
    catalog: Catalog,
    wish: PickedSamples,
    author: str,
    find: Callable[[Snapshot], Picked],
    add: Callable[[PendingCommit, Picked], object],
) -> Done:
    """What is found to do, committed unless it is nothing or only to be shown."""
    with catalog.read() as now:
        found = find(now)
    commit = None
    if len(found.rows) and not wish.preview:
        with catalog.commit(author=author, message=wish.told(), batch=wish.batch) as change:
            found = Picked(rows=found.rows.slice(0, 0)) if change.repeated else find(change.now)
            add(change, found)
        commit = change.id
    return Done(
        author=author, done=len(found.rows), passed_over=dict(found.passed_over), noted=dict(found.noted), commit=commit
    )
