"""Routes about commits: the log by author, task and slice, what a commit changed, and undoing one."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from amber.service.access import Admin, Reader, Served, batch_of
from amber.service.facts.changes import changes, revert, reverting
from amber.service.facts.run_work import Works
from amber.service.models.ledger import FAULTS
from amber.service.models.log import ChangesRow, CommitRow, RevertAsked, Reverted
from amber.service.routes.paging import Paging
from amber.service.routes.tables_out import PAGED, Format, table_out
from curation.catalog.ownership import Identity
from curation.catalog.pages import Page
from curation.catalog.snapshot import Snapshot

__all__ = ["commit_rows", "log_page", "router"]

router = APIRouter(prefix="/api", responses=FAULTS)

Text = Annotated[str, Query(max_length=200)]
Number = Annotated[int, Path(ge=1, le=2**53)]


@router.get("/commits", response_model=list[CommitRow], responses=PAGED)
def commits(
    token: Reader, paging: Paging, author: Text = "", task: Text = "", slice: Text = "", format: Format = "json"
) -> object:
    """Commits, newest first: of an author, about a task, about a slice."""
    with paging.read() as now:
        page = log_page(now, paging.after, limit=paging.limit, author=author, task=task, slice=slice)
        rows = commit_rows(now, page.rows.to_pylist())
    paging.link(page, now.commit)
    return table_out(rows, format, of=CommitRow, beside=paging.response)


@router.get("/commits/{commit}")
def commit(token: Reader, workspace: Served, commit: Number) -> CommitRow:
    """One commit."""
    with workspace.catalog.read() as now:
        return commit_rows(now, [now.log.commit(commit)])[0]


@router.get("/commits/{commit}/changes")
def changed(token: Reader, workspace: Served, work: Works, commit: Number) -> ChangesRow:
    """What a commit changed; 503 while this is computed: ask again."""
    return ChangesRow.model_validate(work.take(*changes(workspace.catalog, commit)))


@router.post("/commits/{commit}/revert")
def undo(token: Admin, workspace: Served, work: Works, commit: Number, asked: RevertAsked) -> Reverted:
    """Undo a commit by a new one, as `amber revert`; events that later commits have replaced are kept."""
    by = Identity(name=token.name, via="token")
    if asked.preview:
        done = work.take(*reverting(workspace.catalog, commit, by=by, author=token.name))
    else:
        done = revert(workspace.catalog, commit, by=by, author=token.name, batch=batch_of(token, asked.batch))
    return Reverted.model_validate(vars(done))


def log_page(
    now: Snapshot, after: tuple[Any, ...], *, limit: int, author: str = "", task: str = "", slice: str = ""
) -> Page:
    """A page of `now.log.page`, with the task by its name; NotFound for a task that there is not."""
    now.task(task) if task else None
    return now.log.page(after, limit=limit, author=author, task=now.task_ids()[task] if task else None, slice=slice)


def commit_rows(now: Snapshot, rows: list[Mapping[str, Any]]) -> list[CommitRow]:
    """Commits with what they added."""
    added = now.log.added(row["id"] for row in rows)
    return [
        CommitRow(commit=row["id"], at=row["committed_at"], added=added[row["id"]],
                  **{name: row[name] for name in ("author", "message", "batch", "digest")})
        for row in rows
    ]  # fmt: skip
