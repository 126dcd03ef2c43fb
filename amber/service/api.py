"""The JSON API: each request is one unit of work on the catalog."""

from collections.abc import Callable
from datetime import UTC
from math import isfinite
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, HTTPException, Path, Query

from amber.service.middleware import allowed
from amber.service.models import (
    FAULTS,
    Asked,
    AskedFor,
    CoverageRow,
    FigureRow,
    Given,
    GivenLabel,
    LabelRow,
    RequestRow,
    RunRow,
    SampleRow,
    SliceRow,
    TaskRow,
)
from amber.service.tokens import Token, Tokens
from curation.analysis.coverage import coverage
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import LABELS
from curation.catalog.schema import KNOWN
from curation.catalog.tasks import Task
from curation.errors import BadInput, NotFound
from curation.ingest.readers.values import value_of
from curation.requests.proposals import Proposal, propose

__all__ = ["api_router"]

Limit = Annotated[int, Query(ge=1, le=1_000)]
After = Annotated[str, Query(max_length=500, description="the key of the last row seen")]
Name = Annotated[str, Path(max_length=100)]


def api_router(catalog: Catalog, tokens: Tokens, image_of: Callable[[dict[str, Any]], str]) -> APIRouter:
    """The routes; `image_of` gives the signed path of a sample's image."""
    router = APIRouter(prefix="/api", responses=FAULTS)
    read, label, giver = allowed(tokens, "read"), allowed(tokens, "label"), allowed(tokens, "label", "admin")

    @router.get("/tasks")
    def tasks(token: read) -> list[TaskRow]:  # type: ignore[valid-type]
        """Learning tasks."""
        with catalog.read() as now:
            rows = [task.model_dump(include=set(TaskRow.model_fields)) for task in now.tasks().values()]
        return [TaskRow.model_validate(row) for row in rows]

    @router.get("/samples")
    def samples(token: read, limit: Limit = 100, after: After = "", slice: str = "") -> list[SampleRow]:  # type: ignore[valid-type]
        """Samples by key, those after the key `after`, of a slice."""
        with catalog.read() as now:
            table = now.samples()
            if slice:
                ids = now.members(now.slice(slice).predicate)
                table = table.filter(pc.is_in(table["sample_id"], value_set=pa.array(ids)))
        return [_sample(row, image_of) for row in _page(table, limit, after)]

    @router.get("/samples/{key:path}")
    def sample(token: read, key: Annotated[str, Path(max_length=500)]) -> SampleRow:  # type: ignore[valid-type]
        """One sample, with the signed path of its image."""
        with catalog.read() as now:
            table = now.samples()
        rows = table.filter(pc.equal(table["key"], key)).to_pylist()
        if not rows:
            raise NotFound("key: no such sample; /api/samples lists them")
        return _sample(rows[0], image_of)

    @router.get("/labels/{task}")
    def labels(token: read, task: Name, limit: Limit = 100, after: After = "") -> list[LabelRow]:  # type: ignore[valid-type]
        """What is held true of each sample for a task: its current labels."""
        with catalog.read() as now:
            definition, table = now.task(task), now.labels(task)
            samples = now.samples()
        places = pc.index_in(table["sample_id"], value_set=samples["sample_id"].combine_chunks())
        table = table.append_column("key", samples["key"].take(places)).sort_by("key")
        return [_label(definition, row) for row in _page(table, limit, after)]

    @router.post("/labels")
    def give(token: giver, given: Given) -> Asked:  # type: ignore[valid-type]
        """Give labels, all or none of them; the same batch again does nothing."""
        who = _annotator(token, given)
        with catalog.commit(author=token.name, message="labels by the service", batch=given.batch) as change:  # type: ignore[attr-defined]
            known = change.now.tasks()
            rows = [_given(known, row, who) for row in given.labels]
            return Asked(requests=change.add_labels(pa.Table.from_pylist(rows, LABELS), source="human"))

    @router.get("/coverage")
    def covered(token: read) -> list[CoverageRow]:  # type: ignore[valid-type]
        """How much is known, by task, slice and split."""
        with catalog.read() as now:
            cells = coverage(now).cells
        names = list(CoverageRow.model_fields)
        return [CoverageRow.model_validate({name: getattr(cell, name) for name in names}) for cell in cells]

    @router.get("/slices")
    def slices(token: read) -> list[SliceRow]:  # type: ignore[valid-type]
        """Declared slices, with their predicates."""
        with catalog.read() as now:
            found = now.slices().values()
        return [SliceRow(name=part.name, task=part.task, predicate=part.predicate, rare=part.rare) for part in found]

    @router.get("/plans")
    def plans(token: read) -> list[str]:  # type: ignore[valid-type]
        """Hashes of the plans."""
        return sorted(path.parent.name for path in (catalog.home / "plans").glob("*/plan.json"))

    @router.get("/runs")
    def runs(token: read) -> list[RunRow]:  # type: ignore[valid-type]
        """Registered runs."""
        with catalog.read() as now:
            rows = now.runs().to_pylist()
        return [RunRow(run=row["run"], plan=row["plan"], commit=row["commit_id"]) for row in rows]

    @router.get("/runs/{run}/figures")
    def figures(token: read, run: Name) -> list[FigureRow]:  # type: ignore[valid-type]
        """Figures of a run by task, slice and split, as it was evaluated last."""
        with catalog.read() as now:
            known, rows = now.runs()["run"].to_pylist(), now.runs.slice_errors(run).to_pylist()
        if run not in known:
            raise NotFound("run: no such run; /api/runs lists them")
        return [FigureRow.model_validate({name: _finite(cell) for name, cell in row.items()}) for row in rows]

    @router.get("/requests")
    def requests(token: read, state: str = "open", limit: Limit = 100) -> list[RequestRow]:  # type: ignore[valid-type]
        """Label requests of a state, the most urgent first."""
        with catalog.read() as now:
            table = now.requests(state).sort_by("priority").slice(0, limit)
        return [RequestRow.model_validate(row) for row in table.select(list(RequestRow.model_fields)).to_pylist()]

    @router.post("/requests")
    def ask(token: label, asked: AskedFor) -> Asked:  # type: ignore[valid-type]
        """Ask for labels where they help most; the same batch again does nothing."""
        made = Proposal(budget=asked.budget, seed=asked.seed, random_share=asked.random_share)
        return Asked(requests=propose(catalog, made, author="service", batch=asked.batch))

    return router


def _page(table: pa.Table, limit: int, after: str) -> list[dict[str, Any]]:
    rest = table.filter(pc.greater(table["key"], after)) if after else table
    return list(rest.slice(0, limit).to_pylist())


def _sample(row: dict[str, Any], image_of: Callable[[dict[str, Any]], str]) -> SampleRow:
    names = set(SampleRow.model_fields)
    return SampleRow.model_validate({**{k: v for k, v in row.items() if k in names}, "image": image_of(row)})


def _finite(cell: Any) -> Any:
    """JSON has no word for what is not a number."""
    return None if isinstance(cell, float) and not isfinite(cell) else cell


def _label(task: Task, row: dict[str, Any]) -> LabelRow:
    value: Any = None
    if row["state"] == KNOWN:
        match task.kind:
            case "regression":
                value = row["number"]
            case "multilabel":
                value = [task.classes[code] for code in row["codes"]]
            case "detection":
                value = [
                    {"class": task.classes[box["code"]], **{side: box[side] for side in "xywh"}} for box in row["boxes"]
                ]
            case _:
                value = task.classes[row["code"]]
    same = {"key": row["key"], "task": task.name, "source": row["source"], "value": value}
    return LabelRow.model_validate({**same, "state": "known" if row["state"] == KNOWN else "unsure"})


def _annotator(token: Token, given: Given) -> str:
    """Who gives labels: the token's owner; an admin may name another."""
    if given.annotator not in ("", token.name) and token.scope != "admin":
        raise HTTPException(403, f"annotator: must be {token.name!r}, whose token this is; leave it out")
    return given.annotator or token.name


def _given(tasks: dict[str, Task], row: GivenLabel, annotator: str) -> dict[str, Any]:
    if row.task not in tasks:
        raise BadInput(f"task {row.task!r}: the catalog has no such task; /api/tasks lists them")
    at = row.labelled_at
    if at is not None and at.tzinfo is not None:
        at = at.astimezone(UTC).replace(tzinfo=None)
    same = {"key": row.key, "task": row.task, "annotator": annotator, "labelled_at": at}
    if row.value is None:
        return {**same, "state": "unsure"}
    return {**same, "state": "known", **value_of(tasks[row.task], row.value, f"label of {row.key!r}")}
