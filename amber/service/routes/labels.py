"""Routes that read current labels and take in labels that people give."""

from datetime import UTC, datetime
from math import isfinite
from typing import Any

import pyarrow as pa
from fastapi import APIRouter, HTTPException

from amber.service.access import AnyLabeler, Reader, Served, batch_of
from amber.service.models.ledger import FAULTS, Asked, Given, GivenLabel, LabelRow
from amber.service.routes.ledger import Name
from amber.service.routes.paging import Paging
from amber.service.routes.tables_out import PAGED, Format, table_out
from amber.service.tokens import Token
from curation.catalog.event_tables import LABELS
from curation.catalog.schema import KNOWN, STATES
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.ingestion.readers.values import value_of

__all__ = ["router"]

router = APIRouter(prefix="/api", responses=FAULTS)


@router.get("/labels/{task}", response_model=list[LabelRow], responses=PAGED)
def labels(token: Reader, paging: Paging, task: Name, format: Format = "json") -> object:
    """Current labels of a task, in the order in which their samples were added.

    A page looks at a limited number of samples, so it may be short, or empty, before the last page.
    """
    with paging.read() as now:
        definition, page = now.task(task), now.labels.page(task, paging.after, limit=paging.limit)
    paging.link(page, now.commit)
    rows = [_label_row(definition, row) for row in page.rows.to_pylist()]
    return table_out(rows, format, of=LabelRow, beside=paging.response)


@router.post("/labels")
def give(token: AnyLabeler, workspace: Served, given: Given) -> Asked:
    """Give labels: all of them are committed or none. Sending the same batch again changes nothing."""
    annotator = _annotator(token, given)
    batch = batch_of(token, given.batch)
    with workspace.catalog.commit(author=token.name, message="labels by the service", batch=batch) as change:
        tasks = change.now.tasks()
        rows = [_event_row(tasks, label, annotator) for label in given.labels]
        return Asked(requests=change.add_labels(pa.Table.from_pylist(rows, LABELS), source="human"))


def _label_row(task: Task, row: dict[str, Any]) -> LabelRow:
    name = {code: name for name, code in STATES.items()}[row["state"]]
    return LabelRow.model_validate(
        {"key": row["key"], "task": task.name, "source": row["source"], "state": name,
         "value": _value(task, row) if row["state"] == KNOWN else None}
    )  # fmt: skip


def _value(task: Task, row: dict[str, Any]) -> Any:
    """The value of a known label as the JSON API shows it."""
    match task.kind:
        case "regression":
            return row["number"]
        case "multilabel":
            return [task.classes[code] for code in row["codes"]]
        case "detection":
            return [
                {"class": task.classes[box["code"]], **{side: box[side] for side in "xywh"}} for box in row["boxes"]
            ]
        case _:
            return task.classes[row["code"]]


def _annotator(token: Token, given: Given) -> str:
    """The annotator of the given labels: the token's owner, unless an admin names another."""
    if given.annotator not in ("", token.name) and token.scope != "admin":
        raise HTTPException(403, f"annotator: must be {token.name!r}, whose token this is; leave it out")
    return given.annotator or token.name


def _event_row(tasks: dict[str, Task], label: GivenLabel, annotator: str) -> dict[str, Any]:
    """A row of `LABELS` for one given label."""
    if label.task not in tasks:
        raise BadInput(f"task {label.task!r}: the catalog has no such task; /api/tasks lists them")
    row = {"key": label.key, "task": label.task, "annotator": annotator, "labelled_at": _utc(label.labelled_at)}
    if label.value is None:
        return {**row, "state": label.state or "unsure"}
    if label.state:
        raise BadInput(f"label of {label.key!r}: has a value and is {label.state}; leave one out")
    origin = f"label of {label.key!r}"
    _check_storable(label.value, origin)
    return {**row, "state": "known", **value_of(tasks[label.task], label.value, origin)}


def _check_storable(value: Any, origin: str) -> None:
    """BadInput unless the catalog can store what is in `value`: UTF-8 text, and finite numbers of 64 bits."""
    rest = [value]
    while rest:
        part = rest.pop()
        if isinstance(part, dict):
            rest += [*part, *part.values()]
        elif isinstance(part, list):
            rest += part
        elif isinstance(part, str) and any("\ud800" <= letter <= "\udfff" for letter in part):
            raise BadInput(f"{origin}: {part!r} has a lone surrogate, which is not text; correct it")
        elif isinstance(part, float) and not isfinite(part):
            raise BadInput(f"{origin}: {part} is not a finite number; correct it")
        elif isinstance(part, int) and abs(part) >= 2**63:
            raise BadInput(f"{origin}: a number of {part.bit_length()} bits, at most 63 are stored; correct it")


def _utc(at: datetime | None) -> datetime | None:
    """The same moment as a naive time in UTC; a time without a zone is UTC already."""
    if at is None or at.tzinfo is None:
        return at
    try:
        return at.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        raise BadInput(f"labelled_at {at.isoformat()}: must lie in the years 1 to 9999 in UTC; correct it") from None
