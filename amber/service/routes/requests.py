"""Routes about label requests: the queue, asking for labels, withdrawing and raising, and how fast it empties.

Asking is two units of work on the catalog where a budget follows a run: the run is found first.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from amber.service.access import AnyLabeler, Labeler, Reader, Served, Workspace, batch_of
from amber.service.facts.last_counted import last_rows
from amber.service.models.ledger import (
    FAULTS,
    Asked,
    AskedFor,
    PaceRow,
    QueueChanged,
    RequestRow,
    RequestsChosen,
)
from amber.service.routes.paging import Paging
from amber.service.routes.tables_out import PAGED, TABLES, Format, table_out
from amber.service.tokens import Token
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.requests.proposals import Proposal, propose
from curation.requests.request_queue import put_first, withdraw
from training.run_list import embeddings_of, newest_run

__all__ = ["ask_for", "put_requests_first", "router", "withdraw_requests"]

router = APIRouter(prefix="/api", responses=FAULTS)

Name = Annotated[str, Query(max_length=500)]


@router.get("/requests", response_model=list[RequestRow], responses=PAGED)
def requests(
    token: Reader, paging: Paging, answer: Response, state: Name = "open", task: Name = "", slice: Name = "",
    arm: Name = "", format: Format = "json",
) -> object:  # fmt: skip
    """Label requests in a state, the most urgent first; only those of a task, a slice and an arm where these are
    given."""
    with paging.read() as now:
        page = now.requests.page(state, paging.after, limit=paging.limit, task=task, slice=slice, arm=arm)
    paging.link(page, now.commit)
    rows = [RequestRow.model_validate(row) for row in page.rows.select(list(RequestRow.model_fields)).to_pylist()]
    return table_out(rows, format, of=RequestRow, beside=answer)


@router.post("/requests")
def ask(token: Labeler, workspace: Served, asked: AskedFor) -> Asked:
    """Request labels where they help most; sending the same batch again changes nothing."""
    return ask_for(workspace, token, asked, author="service")


@router.get("/requests/pace", response_model=list[PaceRow], responses=TABLES)
def request_pace(token: Reader, request: Request, workspace: Served, format: Format = "json") -> object:
    """The requests of each task by state, and how fast they are answered, as last counted."""
    return table_out(last_rows(request, workspace, "pace"), format, of=PaceRow)


@router.post("/requests/withdrawn")
def withdraw_chosen(token: AnyLabeler, workspace: Served, chosen: RequestsChosen) -> QueueChanged:
    """Withdraw requests; one that was answered is refused, and then none is withdrawn."""
    return withdraw_requests(workspace, token, chosen)


@router.post("/requests/raised")
def raise_chosen(token: AnyLabeler, workspace: Served, chosen: RequestsChosen) -> QueueChanged:
    """Put open requests before all others, in their present order; the next push sends them so."""
    return put_requests_first(workspace, token, chosen)


def ask_for(workspace: Workspace, token: Token, asked: AskedFor, *, author: str) -> Asked:
    """Request labels for a token; the same batch again changes nothing."""
    proposal = _proposal(asked, workspace.catalog)
    return Asked(requests=propose(workspace.catalog, proposal, author=author, batch=batch_of(token, asked.batch)))


def withdraw_requests(workspace: Workspace, token: Token, chosen: RequestsChosen) -> QueueChanged:
    """Withdraw requests for a token, as one commit; the same batch again changes nothing."""
    message, batch = f"withdraw {len(chosen.requests):,} label requests", batch_of(token, chosen.batch)
    with workspace.catalog.commit(author=token.name, message=message, batch=batch) as change:
        done = 0 if change.repeated else withdraw(change, chosen.requests)
    return QueueChanged(requests=done, commit=change.id)


def put_requests_first(workspace: Workspace, token: Token, chosen: RequestsChosen) -> QueueChanged:
    """Put requests first for a token, as one commit; the same batch again changes nothing."""
    message, batch = f"raise {len(chosen.requests):,} label requests", batch_of(token, chosen.batch)
    with workspace.catalog.commit(author=token.name, message=message, batch=batch) as change:
        done = 0 if change.repeated else put_first(change, chosen.requests)
    return QueueChanged(requests=done, commit=change.id)


def _proposal(asked: AskedFor, catalog: Catalog) -> Proposal:
    """How to spend the budget: with triggers by the newest run where none is named."""
    if asked.against and not asked.triggers:
        raise BadInput(f"against {asked.against}: is read by triggers alone; name some, or leave it out")
    run = ""
    if asked.run or asked.triggers:
        with catalog.read() as now:
            run = now.runs.full_id(asked.run) if asked.run else newest_run(catalog.home, now)
    return Proposal(
        budget=asked.budget, seed=asked.seed, random_share=asked.random_share, run=run,
        embeddings=embeddings_of(catalog.home, run) if run else "",
        triggers=tuple(dict.fromkeys(asked.triggers)), against=asked.against or "",
    )  # fmt: skip
