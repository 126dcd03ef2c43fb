"""Routes about runs: the list, trainings that go on, parts of one run, comparisons, and decisions of a gate."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse

from amber.service.access import AnyLabeler, Reader, Served, Workspace
from amber.service.facts.comparing import Comparison, comparison, decision, pair_of
from amber.service.facts.finite import finite
from amber.service.facts.run_work import Works
from amber.service.models.ledger import FAULTS
from amber.service.models.runs import (
    ComparedRow,
    ComparisonRow,
    FlipRow,
    GateAsked,
    GateRow,
    LineageRow,
    LiveRow,
    RunEntryRow,
)
from amber.service.routes.ledger import Name
from amber.service.routes.paging import Paging
from amber.service.routes.tables_out import PAGED, TABLES, Format, table_out
from curation.catalog.ownership import Identity
from training.dynamics.lineage import lineage_of
from training.dynamics.run_marks import run_marks
from training.judging.gate_rules import GateRules
from training.live_run import Live, live_runs
from training.run_list import run_entry, run_page

__all__ = ["live_row", "router"]

router = APIRouter(prefix="/api", responses=FAULTS)

Split = Literal["test", "validation"]
Run = Annotated[str, Query(max_length=100)]


@router.get("/run-entries", response_model=list[RunEntryRow], responses=PAGED)
def run_entries(token: Reader, workspace: Served, paging: Paging, format: Format = "json") -> object:
    """Runs as `amber runs` lists them, newest first: also those that are imported, withdrawn or not evaluated yet."""
    with paging.read() as now:
        after = (str(paging.after[0]), str(paging.after[1])) if paging.after else None
        entries, more = run_page(workspace.catalog.home, now, after, limit=paging.limit)
        commit = now.commit
    rows = [RunEntryRow.model_validate(finite(asdict(entry))) for entry in entries]
    paging.link_to(more, commit)
    return table_out(rows, format, of=RunEntryRow, beside=paging.response)


@router.get("/runs/{run}")
def run(token: Reader, workspace: Served, run: Name) -> RunEntryRow:
    """One run; `run` may be the beginning of its id."""
    with workspace.catalog.read() as now:
        return RunEntryRow.model_validate(finite(asdict(run_entry(workspace.catalog.home, now, run))))


@router.get("/live-runs", response_model=list[LiveRow], responses=TABLES)
def live(token: Reader, workspace: Served, format: Format = "json") -> object:
    """Trainings that go on, and those that were stopped, failed or were killed; the newest first."""
    return table_out([live_row(each) for each in live_runs(workspace.catalog.home)], format, of=LiveRow)


@router.get("/runs/{run}/lineage")
def lineage(token: Reader, workspace: Served, run: Name) -> LineageRow:
    """The runs and plans that led to a run, oldest first."""
    home = workspace.catalog.home
    with workspace.catalog.read() as now:
        found = lineage_of(home, now, run_entry(home, now, run).run)
        marks = run_marks(home, now, [link.run for link in found.links])
    edges = [asdict(edge) for edge in found.edges()]
    return LineageRow.model_validate({**asdict(found), "edges": edges, "broken": list(found.broken), "marks": marks})


@router.get("/runs/{run}/report", response_class=FileResponse)
def report(token: Reader, workspace: Served, work: Works, run: Name) -> Response:
    """The report of an evaluated run, as one HTML file; 503 while it is being made: ask again."""
    key, maker = work.report(run)
    return FileResponse(work.take(key, maker), media_type="text/html")


@router.get("/comparison", responses=TABLES)
def compared(
    token: Reader, workspace: Served, work: Works, second: Run = "", first: Run = "", split: Split = "test",
    format: Format = "json",
) -> ComparisonRow:  # fmt: skip
    """Two runs beside each other, as `amber compare`; 503 while this is computed: ask again.

    Without `second` the run evaluated last, without `first` the run before it. As Arrow or CSV only the figures.
    """
    earlier, newest, commit = pair_of(workspace.catalog, first, second)
    key, maker = comparison(workspace.catalog, earlier, newest, split, commit)
    found = comparison_row(work.take(key, maker), workspace)
    return found if format == "json" else table_out(found.figures, format, ComparedRow)


@router.post("/gates")
def gate(token: AnyLabeler, workspace: Served, work: Works, asked: GateAsked) -> GateRow:
    """Decide whether a run may replace another one, by rules; the decision is recorded, the same one once.

    503 while this is computed: send it again.
    """
    rules = GateRules.of_text(asked.rules)
    earlier, newest, commit = pair_of(workspace.catalog, asked.against, asked.run)
    by = Identity(name=token.name, via="token")
    key, maker = decision(workspace.catalog, (earlier, newest), rules, by=by, author=token.name, commit=commit)
    return GateRow.model_validate(finite(work.take(key, maker)))


def live_row(live: Live) -> LiveRow:
    """A training as the API shows it."""
    words = asdict(live)
    for name in ("machine", "process", "outcome"):
        del words[name]
    return LiveRow.model_validate(finite({**words, "state": live.state, "left": live.left}))


def comparison_row(found: Comparison, workspace: Workspace) -> ComparisonRow:
    """A comparison as the API shows it."""
    figures, attributes = (
        [ComparedRow.model_validate(finite(asdict(part))) for part in rows]
        for rows in (found.figures, found.attributes)
    )
    flipped: dict[str, dict[str, int]] = {}
    for (task, what), number in found.flipped.items():
        flipped.setdefault(task, {})[what] = number
    images = {key: workspace.image_path({"location": location}) for key, location in found.locations.items()}
    flips = [FlipRow.model_validate(finite(_flip(asdict(flip), images))) for flip in found.flips]
    return ComparisonRow(
        first=found.first, second=found.second, split=found.split, commit=found.commit, figures=figures,
        attributes=attributes, flips=flips, flipped=flipped, notes=list(found.notes),
    )  # fmt: skip


def _flip(flip: dict[str, Any], images: Mapping[str, str]) -> dict[str, Any]:
    return {**flip, "confidence": list(flip["confidence"]), "image": images.get(flip["key"], "")}
