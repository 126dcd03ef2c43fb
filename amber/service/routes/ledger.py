"""The JSON API that reads the catalog. Each HTTP request is one unit of work on the catalog.

The names of the route functions are part of the OpenAPI document: they become its operation ids.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from amber.service.access import Reader, Served, Workspace
from amber.service.facts.finite import finite
from amber.service.models.ledger import (
    FAULTS,
    CoverageRow,
    FigureRow,
    ListedPlan,
    RunRow,
    SampleRow,
    SliceRow,
    TaskRow,
)
from amber.service.routes.paging import Paging
from amber.service.routes.tables_out import PAGED, TABLES, Format, table_out
from curation.analysis.coverage import coverage

__all__ = ["Name", "router"]

router = APIRouter(prefix="/api", responses=FAULTS)

Name = Annotated[str, Path(max_length=100)]


@router.get("/tasks", response_model=list[TaskRow], responses=TABLES)
def tasks(token: Reader, workspace: Served, format: Format = "json") -> object:
    """Learning tasks."""
    with workspace.catalog.read() as now:
        rows = [task.model_dump(include=set(TaskRow.model_fields)) for task in now.tasks().values()]
    return table_out([TaskRow.model_validate(row) for row in rows], format, of=TaskRow)


@router.get("/samples", response_model=list[SampleRow], responses=PAGED)
def samples(token: Reader, workspace: Served, paging: Paging, slice: str = "", format: Format = "json") -> object:
    """Samples in the order in which they were added, and only those of `slice` if given.

    A page of a slice looks at a limited number of samples, so it may be short, or empty, before the last page.
    """
    with paging.read() as now:
        predicate = now.slice(slice).predicate if slice else ""
        page = now.sample_page(paging.after, limit=paging.limit, predicate=predicate)
    paging.link(page, now.commit)
    rows = [_sample_row(row, workspace) for row in page.rows.to_pylist()]
    return table_out(rows, format, of=SampleRow, beside=paging.response)


@router.get("/samples/{key:path}")
def sample(token: Reader, workspace: Served, key: Annotated[str, Path(max_length=500)]) -> SampleRow:
    """One sample, with the signed path of its image."""
    with workspace.catalog.read() as now:
        row = workspace.images.sample(now, key)
    return _sample_row(row, workspace)


@router.get("/coverage", response_model=list[CoverageRow], responses=TABLES)
def covered(token: Reader, workspace: Served, format: Format = "json") -> object:
    """Counts of known, unsure, inapplicable and unknown labels by task, slice and split."""
    with workspace.catalog.read() as now:
        cells = coverage(now).cells
    names = list(CoverageRow.model_fields)
    rows = [CoverageRow.model_validate({name: getattr(cell, name) for name in names}) for cell in cells]
    return table_out(rows, format, of=CoverageRow)


@router.get("/slices", response_model=list[SliceRow], responses=TABLES)
def slices(token: Reader, workspace: Served, format: Format = "json") -> object:
    """Declared slices, with their predicates."""
    with workspace.catalog.read() as now:
        found = now.slices().values()
    rows = [SliceRow(name=part.name, task=part.task, predicate=part.predicate, rare=part.rare) for part in found]
    return table_out(rows, format, of=SliceRow)


@router.get("/plans", response_model=list[str], responses=TABLES)
def plans(token: Reader, workspace: Served, format: Format = "json") -> object:
    """Hashes of the plans."""
    found = sorted(path.parent.name for path in (workspace.catalog.home / "plans").glob("*/plan.json"))
    return found if format == "json" else table_out([ListedPlan(plan=each) for each in found], format, of=ListedPlan)


@router.get("/runs", response_model=list[RunRow], responses=PAGED)
def runs(token: Reader, paging: Paging, format: Format = "json") -> object:
    """Registered runs, oldest first."""
    with paging.read() as now:
        page = now.runs.page(paging.after, limit=paging.limit)
    paging.link(page, now.commit)
    rows = [RunRow(run=row["run"], plan=row["plan"], commit=row["commit_id"]) for row in page.rows.to_pylist()]
    return table_out(rows, format, of=RunRow, beside=paging.response)


@router.get("/runs/{run}/figures", response_model=list[FigureRow], responses=PAGED)
def figures(token: Reader, paging: Paging, run: Name, format: Format = "json") -> object:
    """Figures of a run by task, slice and split, from its latest evaluation; `run` may be the beginning of its id."""
    with paging.read() as now:
        page = now.runs.slice_errors_page(now.runs.full_id(run), paging.after, limit=paging.limit)
    paging.link(page, now.commit)
    rows = [FigureRow.model_validate(finite(row)) for row in page.rows.to_pylist()]
    return table_out(rows, format, of=FigureRow, beside=paging.response)


def _sample_row(row: dict[str, Any], workspace: Workspace) -> SampleRow:
    fields = {name: value for name, value in row.items() if name in SampleRow.model_fields}
    return SampleRow.model_validate({**fields, "image": workspace.image_path(row)})
