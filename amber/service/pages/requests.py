"""Label requests: the queue with reasons and costs, how fast it empties, asking, withdrawing and raising."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlencode

import pyarrow.compute as pc
from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from amber.service.access import Served, Workspace
from amber.service.facts.counted import Counted, Making
from amber.service.facts.label_items import addresses
from amber.service.models.ledger import AskedFor, PaceRow, QueueChanged, RequestsChosen
from amber.service.pages.accounts import Account, Labels, Looks
from amber.service.pages.done_lines import done_line, see_done
from amber.service.pages.rendering import page
from amber.service.pages.typed_forms import parsed
from amber.service.routes.paging import Paged, Paging
from amber.service.routes.requests import ask_for, put_requests_first, withdraw_requests
from amber.service.tokens import Token
from curation.catalog.snapshot import Snapshot
from curation.errors import AmberError
from curation.requests.request_queue import pace

__all__ = ["COUNTED", "router"]

router = APIRouter(include_in_schema=False)

STATES: Final = ("open", "answered", "withdrawn")
FILTERS: Final = ("state", "task", "slice", "arm")
BUDGET: Final[Mapping[str, str]] = {
    "budget": "",
    "random_share": "0.15",
    "run": "",
    "triggers": "",
    "against": "",
    "seed": "0",
}
"""The fields of the form that asks for labels, as they are before somebody types."""


def _pace(now: Snapshot, home: Path) -> list[PaceRow]:
    return [PaceRow.model_validate({**vars(row), "hours": row.hours}) for row in pace(now)]


def _arms(now: Snapshot, home: Path) -> list[str]:
    """The arms that ever requested a label."""
    return sorted(pc.unique(now.requests()["arm"]).to_pylist())


COUNTED: Final[Mapping[str, Making]] = {"pace": _pace, "arms": _arms}


@router.get("/requests")
def requests(request: Request, account: Looks, workspace: Served, paging: Paging) -> HTMLResponse:
    """The queue, or what was answered or withdrawn, by task, slice and arm."""
    return _queue(request, account, workspace, paging)


@router.post("/requests")
def ask(
    request: Request, account: Labels, workspace: Served, paging: Paging, once: Annotated[str, Form()],
    budget: Annotated[str, Form()] = "", random_share: Annotated[str, Form()] = "", run: Annotated[str, Form()] = "",
    triggers: Annotated[str, Form()] = "", against: Annotated[str, Form()] = "", seed: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    """Ask for a budget of labels, as `POST /api/requests` does; the form again, as it was typed, where it is wrong."""
    typed = {
        "budget": budget, "random_share": random_share, "run": run, "triggers": triggers, "against": against,
        "seed": seed,
    }  # fmt: skip
    names = [name.strip() for name in triggers.split(",") if name.strip()]
    try:
        wish = parsed(
            AskedFor, budget=budget.strip(), random_share=random_share.strip(), seed=seed.strip() or 0, batch=once,
            triggers=names, run=run.strip() or None, against=against.strip() or None,
        )  # fmt: skip
        done = ask_for(workspace, account.token, wish, author=account.name)
    except AmberError as error:
        return _queue(request, account, workspace, paging, typed=typed, ask_problem=str(error), status=409)
    line = f"{done.requests:,} labels were asked for." if done.requests else "This budget was asked for before."
    return see_done(request, "/requests", line)


@router.post("/requests/withdraw")
def withdraw(
    request: Request, account: Labels, workspace: Served, paging: Paging, once: Annotated[str, Form()],
    chosen: Annotated[tuple[str, ...], Form()] = (),
) -> Response:  # fmt: skip
    """Withdraw the chosen requests."""
    return _change(request, account, workspace, paging, (withdraw_requests, "withdrawn"), chosen, once)


@router.post("/requests/raise")
def raise_(
    request: Request, account: Labels, workspace: Served, paging: Paging, once: Annotated[str, Form()],
    chosen: Annotated[tuple[str, ...], Form()] = (),
) -> Response:  # fmt: skip
    """Put the chosen requests before all others."""
    return _change(request, account, workspace, paging, (put_requests_first, "put first"), chosen, once)


def _change(
    request: Request, account: Account, workspace: Workspace, paging: Paged,
    act: tuple[Callable[[Workspace, Token, RequestsChosen], QueueChanged], str], chosen: Sequence[str], once: str,
) -> Response:  # fmt: skip
    """Do one of the acts on the chosen requests, and show the same list again."""
    do, word = act
    try:
        done = do(workspace, account.token, parsed(RequestsChosen, requests=chosen, batch=once))
    except AmberError as error:
        line = str(error) if chosen else "requests: none is chosen; choose some with the boxes, then send again"
        return _queue(request, account, workspace, paging, chosen=chosen, problem=line, status=409)
    line = f"{done.requests:,} request{'s' * (done.requests != 1)} {word}, in commit {done.commit}."
    return see_done(request, f"/requests?{urlencode(_filters(request))}", line)


def _filters(request: Request) -> dict[str, str]:
    """What chooses the rows of the list."""
    asked = {name: request.query_params.get(name, "").strip() for name in FILTERS}
    return {**asked, "state": asked["state"] if asked["state"] in STATES else "open"}


def _queue(
    request: Request, account: Account, workspace: Workspace, paging: Paged, *, chosen: Sequence[str] = (),
    problem: str = "", typed: Mapping[str, str] = BUDGET, ask_problem: str = "", status: int = 200,
) -> HTMLResponse:  # fmt: skip
    """The page, with what was chosen and typed."""
    counted: Counted = request.app.state.counted
    asked = _filters(request)
    with paging.read() as now:
        listed = now.requests.page(
            asked["state"], paging.after, limit=paging.limit, task=asked["task"], slice=asked["slice"], arm=asked["arm"]
        )  # fmt: skip
        commit, tasks, slices = now.commit, list(now.tasks()), list(now.slices())
        runs = list(dict.fromkeys(reversed(now.runs()["run"].to_pylist())))
    rows = listed.rows.to_pylist()
    figures = counted.figures(tuple(COUNTED), commit)
    paces: list[PaceRow] | None = figures["pace"].value if figures["pace"] else None
    seconds = {row.task: row.seconds for row in paces or ()}
    links = addresses(workspace.catalog.home, [row["request_id"] for row in rows])
    view = {
        "title": "Requests", "asked": asked, "each_state": STATES, "tasks": tasks, "slices": slices, "runs": runs,
        "arms": (figures["arms"].value if figures["arms"] else None) or [],
        "rows": [{**row, "seconds": seconds.get(row["task"]), "url": links.get(row["request_id"])} for row in rows],
        "next": paging.next_path(listed.next, commit) if listed.next and request.method == "GET" else "",
        "first": f"/requests?{urlencode(asked)}" if paging.after else "", "commit": commit, "figures": figures,
        "paces": paces, "chosen": set(chosen), "problem": problem, "typed": typed, "ask_problem": ask_problem,
        "done": done_line(request), "once": secrets.token_urlsafe(16), "here": f"?{urlencode(asked)}",
        "may": account.may("label", "owner", "admin"), "may_ask": account.may("label", "owner", "admin"),
    }  # fmt: skip
    return page(request, "requests.html", view, account=account, status=status)
