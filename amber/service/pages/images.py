"""One image: the picture with its boxes, who said what of it, what runs predict, and why it is drawn."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from amber.service.access import Served, Workspace
from amber.service.facts.one_picture import picture_facts, sample_or_why
from amber.service.facts.run_choice import NO_RUN, RunChoice, chosen_run
from amber.service.images.pictures import Pictures
from amber.service.models.slices import PictureFacts
from amber.service.pages.accounts import Account, Labels, Looks
from amber.service.pages.done_lines import done_line, see_done
from amber.service.pages.one_slice import here, path_of, runs_shown
from amber.service.pages.picked import Chosen, act_on, new_once
from amber.service.pages.rendering import page
from amber.service.pages.slices import MAY_LABEL
from curation.catalog.snapshot import Snapshot
from curation.errors import AmberError, NotFound
from samplers.plan.explain import explain_draws
from samplers.plan.plan import Plan

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

SHOWN = 512
"""Pixels of the longer side of the picture."""

Key = Annotated[str, Path(max_length=500)]
Runs = Annotated[list[str] | None, Query(max_length=8)]


@router.get("/image/{key:path}")
def image(request: Request, account: Looks, workspace: Served, key: Key, run: Runs = None) -> HTMLResponse:
    """Everything that is known of an image."""
    return _page(request, account, workspace, key, run or [], Chosen())


@router.post("/image/{key:path}")
async def read_form(request: Request, account: Labels, workspace: Served, key: Key, run: Runs = None) -> Response:
    """Do something with the image."""
    chosen = Chosen.of(await request.form())
    return await run_in_threadpool(_act, request, account, workspace, key, run or [], chosen)


@router.get("/why-drawn/{key:path}")
def why_drawn(request: Request, account: Looks, workspace: Served, key: Key) -> HTMLResponse:
    """Why the newest plan draws an image, and with which weights."""
    with workspace.catalog.read() as now:
        sample_or_why(now, workspace, key)
    view: dict[str, Any] = {"title": f"Why {key} is drawn", "key": key, "problem": ""}
    try:
        plan = Plan.newest(workspace.catalog.home)
        reasons = explain_draws(plan, key)
    except NotFound as error:
        return page(request, "why_drawn.html", {**view, "problem": str(error)}, account=account)
    expected = sum({row.phase: row.expected for row in reasons}.values())
    drawn = sum(row.drawn for row in reasons)
    view |= {"plan": plan.hash, "reasons": reasons, "expected": expected, "drawn": drawn}
    return page(request, "why_drawn.html", view, account=account)


def _act(
    request: Request, account: Account, workspace: Workspace, key: str, runs: Sequence[str], chosen: Chosen
) -> Response:
    try:
        with workspace.catalog.read() as now:
            sample_or_why(now, workspace, key)
        line = act_on(workspace, account, chosen, [key])
    except AmberError as error:
        return _page(request, account, workspace, key, runs, chosen, problem=str(error))
    return see_done(request, here(request), line)


def _page(
    request: Request, account: Account, workspace: Workspace, key: str, asked: Sequence[str], chosen: Chosen,
    problem: str = "",
) -> HTMLResponse:  # fmt: skip
    with workspace.catalog.read() as now:
        sample = sample_or_why(now, workspace, key)
        choices, fault = _choices(workspace, now, asked)
        facts = picture_facts(now, workspace, sample, choices)
        first = choices[0].run if choices else ""
        runs, tasks = runs_shown(now, first), list(now.tasks())
    facts = facts.model_copy(update={"problem": _unreadable(request, facts)})
    predicted = [choice.run for choice in choices if choice.run]
    view = {
        "title": key, "facts": facts, "tasks": tasks, "runs": runs, "run": first, "others": predicted[1:],
        "predicted_runs": predicted, "labels": _beside(facts, predicted), "chosen": chosen, "here": here(request),
        "once": chosen.once or new_once(), "problem": problem or fault, "done": done_line(request),
        "run_problem": "; ".join(choice.problem for choice in choices if choice.problem),
        "may": account.may(*MAY_LABEL), "path": path_of(request),
    }  # fmt: skip
    return page(request, "image.html", view, account=account, status=409 if problem else 200)


def _choices(workspace: Workspace, now: Snapshot, asked: Sequence[str]) -> tuple[list[RunChoice], str]:
    """The runs whose predictions are shown, each once, and why one of them is not."""
    home, fault, found = workspace.catalog.home, "", dict[str, RunChoice]()
    names = [name for name in asked if name != NO_RUN] or ([""] if not asked else [])
    for name in names:
        try:
            choice = chosen_run(home, now, name)
        except AmberError as error:
            fault = str(error)
        else:
            found.setdefault(choice.run, choice)
    return list(found.values()), fault


def _beside(facts: PictureFacts, runs: Sequence[str]) -> list[tuple[Any, list[Any]]]:
    """Each task's label with the predictions of the runs."""
    said = {(row.run, row.task): row for row in facts.predictions}
    return [(label, [said.get((run, label.task)) for run in runs]) for label in facts.labels]


def _unreadable(request: Request, facts: PictureFacts) -> str:
    """Why the file of an image cannot be shown; "" where it can. What is read here is kept for the browser."""
    pictures: Pictures = request.app.state.pictures
    if pictures.kept(facts.location, SHOWN) is not None:
        return ""
    try:
        pictures.load(facts.location, SHOWN)
    except AmberError as error:
        return f"The picture cannot be shown: {error}"
    return ""
