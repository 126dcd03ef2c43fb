"""The JSON API that reads the catalog and requests labels. Each HTTP request is one unit of work on the catalog.

The names of the route functions are part of the OpenAPI document: they become its operation ids.
"""

from math import isfinite
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Path, Query

from amber.service.access import Labeler, Reader, Served, Workspace, batch_of
from amber.service.models import (
    FAULTS,
    Asked,
    AskedFor,
    CoverageRow,
    FigureRow,
    RequestRow,
    RunRow,
    SampleRow,
    SliceRow,
    TaskRow,
)
from curation.analysis.coverage import coverage
from curation.errors import NotFound
from curation.requests.proposals import Proposal, propose

__all__ = ["After", "Limit", "Name", "page", "router"]

router = APIRouter(prefix="/api", responses=FAULTS)

Limit = Annotated[int, Query(ge=1, le=1_000)]
After = Annotated[str, Query(max_length=500, description="the key of the last row seen")]
Name = Annotated[str, Path(max_length=100)]


@router.get("/tasks")
def tasks(token: Reader, workspace: Served) -> list[TaskRow]:
    """Learning tasks."""
    with workspace.catalog.read() as now:
        rows = [task.model_dump(include=set(TaskRow.model_fields)) for task in now.tasks().values()]
    return [TaskRow.model_validate(row) for row in rows]


@router.get("/samples")
def samples(
    token: Reader, workspace: Served, limit: Limit = 100, after: After = "", slice: str = ""
) -> list[SampleRow]:
    """Samples sorted by key: those after the key `after`, and only those of `slice` if given."""
    with workspace.catalog.read() as now:
        table = now.samples()
        if slice:
            ids = now.members(now.slice(slice).predicate)
            table = table.filter(pc.is_in(table["sample_id"], value_set=pa.array(ids)))
    return [_sample_row(row, workspace) for row in page(table, limit, after)]


@router.get("/samples/{key:path}")
def sample(token: Reader, workspace: Served, key: Annotated[str, Path(max_length=500)]) -> SampleRow:
    """One sample, with the signed path of its image."""
    with workspace.catalog.read() as now:
        table = now.samples()
    rows = table.filter(pc.equal(table["key"], key)).to_pylist()
    if not rows:
        raise NotFound("key: no such sample; /api/samples lists them")
    return _sample_row(rows[0], workspace)


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


@router.get("/runs")
def runs(token: Reader, workspace: Served) -> list[RunRow]:
    """Registered runs."""
    with workspace.catalog.read() as now:
        rows = now.runs().to_pylist()
    return [RunRow(run=row["run"], plan=row["plan"], commit=row["commit_id"]) for row in rows]


@router.get("/runs/{run}/figures")
def figures(token: Reader, workspace: Served, run: Name) -> list[FigureRow]:
    """Figures of a run by task, slice and split, from its latest evaluation; `run` may be the beginning of its id."""
    with workspace.catalog.read() as now:
        rows = now.runs.slice_errors(now.runs.full_id(run)).to_pylist()
    return [FigureRow.model_validate({name: _finite(cell) for name, cell in row.items()}) for row in rows]


@router.get("/requests")
def requests(token: Reader, workspace: Served, state: str = "open", limit: Limit = 100) -> list[RequestRow]:
    """Label requests in a state, the most urgent first."""
    with workspace.catalog.read() as now:
        table = now.requests(state).sort_by("priority").slice(0, limit)
    return [RequestRow.model_validate(row) for row in table.select(list(RequestRow.model_fields)).to_pylist()]


@router.post("/requests")
def ask(token: Labeler, workspace: Served, asked: AskedFor) -> Asked:
    """Request labels where they help most; sending the same batch again changes nothing."""
    proposal = Proposal(budget=asked.budget, seed=asked.seed, random_share=asked.random_share)
    return Asked(requests=propose(workspace.catalog, proposal, author="service", batch=batch_of(token, asked.batch)))


def page(table: pa.Table, limit: int, after: str) -> list[dict[str, Any]]:
    """The first `limit` rows of `table` (sorted by its column `key`) after the key `after`."""
    rest = table.filter(pc.greater(table["key"], after)) if after else table
    return list(rest.slice(0, limit).to_pylist())


def _sample_row(row: dict[str, Any], workspace: Workspace) -> SampleRow:
    fields = {name: value for name, value in row.items() if name in SampleRow.model_fields}
    return SampleRow.model_validate({**fields, "image": workspace.image_path(row)})


def _finite(cell: Any) -> Any:
    """None for NaN and infinity, which JSON cannot express."""
    return None if isinstance(cell, float) and not isfinite(cell) else cell
