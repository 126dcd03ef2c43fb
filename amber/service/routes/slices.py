"""Routes about slices and single images: what the pages of slices and images show and do."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from amber.service.access import AnyLabeler, Reader, Served
from amber.service.facts.counted import Counted
from amber.service.facts.elsewhere import app_address, app_command, open_items
from amber.service.facts.one_picture import picture_facts, sample_or_why
from amber.service.facts.run_choice import chosen_run
from amber.service.facts.slice_declaration import declare_slice, preview_slice, sizes_over_commits
from amber.service.facts.slice_pictures import Labelled, PictureFilter, picture_page
from amber.service.facts.slice_table import PARTS, gate_outcomes, slice_facts, slice_rows
from amber.service.models.ledger import FAULTS, SliceRow
from amber.service.models.slices import (
    Elsewhere,
    ItemRow,
    NewSlice,
    PictureFacts,
    PictureRow,
    SliceFacts,
    SlicePreview,
    SliceSize,
    SliceSummary,
)
from amber.service.routes.ledger import Name
from amber.service.routes.paging import Paging
from amber.service.routes.tables_out import PAGED, TABLES, Format, table_out

__all__ = ["Predicted", "RunName", "router"]

router = APIRouter(prefix="/api", responses=FAULTS)

RunName = Annotated[str, Query(max_length=100, description='its id, or how it begins; "": the newest; "-": none')]
TaskName = Annotated[str, Query(max_length=100)]
Predicted = Annotated[str, Query(max_length=500, description="a class of the task")]


@router.get("/slice-summaries", response_model=list[SliceSummary], responses=TABLES)
def slice_table(token: Reader, workspace: Served, request: Request, format: Format = "json") -> object:
    """Slices with their sizes and newest figures, which are counted in the background: null where none is ready."""
    counted: Counted = request.app.state.counted
    with workspace.catalog.read() as now:
        slices, commit, (_, gates) = now.slices(), now.commit, gate_outcomes(workspace.catalog.home, now)
    rows = [row.slice for row in slice_rows(slices, counted.figures(PARTS, commit), gates)]
    return table_out(rows, format, of=SliceSummary)


@router.get("/slice-preview")
def preview(
    token: Reader, workspace: Served, predicate: Annotated[str, Query(min_length=1, max_length=10_000)],
    task: TaskName = "", run: RunName = "",
) -> SlicePreview:  # fmt: skip
    """What a predicate would hold as a slice."""
    return preview_slice(workspace, predicate, task, run)


@router.post("/slices")
def declare(token: AnyLabeler, workspace: Served, wanted: NewSlice) -> SliceRow:
    """Declare a slice; sending the same batch again changes nothing."""
    made = declare_slice(workspace.catalog, wanted, token)
    return SliceRow(name=made.name, task=made.task, predicate=made.predicate, rare=made.rare)


@router.get("/slices/{slice}")
def one_slice(token: Reader, workspace: Served, request: Request, slice: Name) -> SliceFacts:
    """A slice with its declarations, and its figures by task and run."""
    counted: Counted = request.app.state.counted
    with workspace.catalog.read() as now:
        return slice_facts(now, now.slice(slice), counted.figures(PARTS, now.commit))


@router.get("/slices/{slice}/sizes", response_model=list[SliceSize], responses=TABLES)
def sizes(token: Reader, workspace: Served, slice: Name, run: RunName = "", format: Format = "json") -> object:
    """How many samples the slice held after some of the commits, the oldest first."""
    with workspace.catalog.read() as now:
        choice = chosen_run(workspace.catalog.home, now, run)
        return table_out(sizes_over_commits(now, now.slice(slice), choice.file), format, of=SliceSize)


@router.get("/slices/{slice}/pictures", response_model=list[PictureRow], responses=PAGED)
def pictures(
    token: Reader, workspace: Served, paging: Paging, slice: Name, run: RunName = "", task: TaskName = "",
    split: Annotated[str, Query(max_length=100)] = "", state: Labelled = "", predicted: Predicted = "",
    wrong: bool = False, format: Format = "json",
) -> object:  # fmt: skip
    """Images of a slice in the order in which they were added, with what is known of a task and what a run predicts.

    A page may be short, or empty, before the last page.
    """
    shown = PictureFilter(task=task, split=split, state=state, predicted=predicted, wrong=wrong)
    with paging.read() as now:
        choice = chosen_run(workspace.catalog.home, now, run)
        rows, after = picture_page(
            now, workspace, now.slice(slice).predicate, shown, choice, paging.after, limit=paging.limit
        )
    paging.link_to(after, now.commit)
    return table_out(rows, format, of=PictureRow, beside=paging.response)


@router.get("/slices/{slice}/elsewhere", response_model=Elsewhere, responses=TABLES)
def elsewhere(token: Reader, workspace: Served, slice: Name, run: RunName = "", format: Format = "json") -> object:
    """Where else a slice can be looked at: the FiftyOne App, and its open items in Label Studio. As Arrow or CSV only
    the items."""
    home = workspace.catalog.home
    with workspace.catalog.read() as now:
        part, choice = now.slice(slice), chosen_run(home, now, run)
        items = open_items(home, now, part, choice.file)
    if format != "json":
        return table_out(items, format, of=ItemRow)
    return Elsewhere(app=app_address(home, part), command=app_command(home, part, choice.run), items=items)


@router.get("/pictures/{key:path}")
def picture(
    token: Reader, workspace: Served, key: Annotated[str, Path(max_length=500)],
    run: Annotated[list[str], Query(max_length=8, description='as of one; none: the newest')] = [],  # noqa: B006
) -> PictureFacts:  # fmt: skip
    """Everything that is known of one image."""
    home = workspace.catalog.home
    with workspace.catalog.read() as now:
        sample = sample_or_why(now, workspace, key)
        return picture_facts(now, workspace, sample, [chosen_run(home, now, each) for each in run or [""]])
