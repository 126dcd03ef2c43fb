"""The JSON API that reads the catalog. Each HTTP request is one unit of work on the catalog.

The names of the route functions are part of the OpenAPI document: they become its operation ids.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from amber.service.access import Reader, Served, Workspace
from amber.service.finite import finite
from amber.service.models import (
    FAULTS,
    CoverageRow,
    FigureRow,
    RunRow,
    SampleRow,
    SliceRow,
    TaskRow,
)
from amber.service.paging import LINK, Paging
from curation.analysis.coverage import coverage

__all__ = ["Name", "router"]

router = APIRouter(prefix="/api", responses=FAULTS)

Name = Annotated[str, Path(max_length=100)]


@router.get("/tasks")
def tasks(token: Reader, workspace: Served) -> list[TaskRow]:
    """Learning tasks."""
    with workspace.catalog.read() as now:
        rows = [task.model_dump(include=set(TaskRow.model_fields)) for task in now.tasks().values()]
    return [TaskRow.model_validate(row) for row in rows]


@router.get("/samples", responses=LINK)
def samples(token: Reader, workspace: Served, paging: Paging, slice: str = "") -> list[SampleRow]:
    """Samples in the order in which they were added, and only those of `slice` if given.

    A page of a slice looks at a limited number of samples, so it may be short, or empty, before the last page.
    """
    with paging.read() as now:
        predicate = now.slice(slice).predicate if slice else ""
        page = now.sample_page(paging.after, limit=paging.limit, predicate=predicate)
    paging.link(page, now.commit)
    return [_sample_row(row, workspace) for row in page.rows.to_pylist()]


@router.get("/samples/{key:path}")
def sample(token: Reader, workspace: Served, key: Annotated[str, Path(max_length=500)]) -> SampleRow:
    """One sample, with the signed path of its image."""
    with workspace.catalog.read() as now:
        row = now.sample(key)
    return _sample_row(row, workspace)


@router.get("/coverage")
def covered(token: Reader, workspace: Served) -> list[CoverageRow]:
    """Counts of known, unsure, inapplicable and unknown labels by task, slice and split."""
    with workspace.catalog.read() as now:
        cells = coverage(now).cells
    names = list(CoverageRow.model_fields)
    return [CoverageRow.model_validate({name: getattr(cell, name) for name in names}) for cell in cells]


@router.get("/slices")
def slices(token: Reader, workspace: Served) -> list[SliceRow]:
    """Declared slices, with their predicates."""
    with workspace.catalog.read() as now:
        found = now.slices().values()
    return [SliceRow(name=part.name, task=part.task, predicate=part.predicate, rare=part.rare) for part in found]


@router.get("/plans")
def plans(token: Reader, workspace: Served) -> list[str]:
    """Hashes of the plans."""
    return sorted(path.parent.name for path in (workspace.catalog.home / "plans").glob("*/plan.json"))


@router.get("/runs", responses=LINK)
def runs(token: Reader, paging: Paging) -> list[RunRow]:
    """Registered runs, oldest first."""
    with paging.read() as now:
        page = now.runs.page(paging.after, limit=paging.limit)
    paging.link(page, now.commit)
    return [RunRow(run=row["run"], plan=row["plan"], commit=row["commit_id"]) for row in page.rows.to_pylist()]


@router.get("/runs/{run}/figures", responses=LINK)
def figures(token: Reader, paging: Paging, run: Name) -> list[FigureRow]:
    """Figures of a run by task, slice and split, from its latest evaluation; `run` may be the beginning of its id."""
    with paging.read() as now:
        page = now.runs.slice_errors_page(now.runs.full_id(run), paging.after, limit=paging.limit)
    paging.link(page, now.commit)
    rows = page.rows.to_pylist()
    return [FigureRow.model_validate(finite(row)) for row in rows]


def _sample_row(row: dict[str, Any], workspace: Workspace) -> SampleRow:
    fields = {name: value for name, value in row.items() if name in SampleRow.model_fields}
    return SampleRow.model_validate({**fields, "image": workspace.image_path(row)})
