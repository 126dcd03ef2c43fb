"""Everything that the catalog knows of one image: labels, who stated them, predictions, requests, near-duplicates."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from amber.service.access import Workspace
from amber.service.facts.elsewhere import items_of
from amber.service.facts.finite import finite
from amber.service.facts.picture_words import known_boxes, predicted_boxes, predicted_words, short_words, state_name
from amber.service.facts.run_choice import RunChoice
from amber.service.models.slices import (
    AttributeRow,
    CurrentLabel,
    NearRow,
    PictureFacts,
    PredictedRow,
    SampleRequest,
    StatementRow,
)
from curation.catalog.label_words import label_words
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from curation.catalog.task_definitions import Definition
from curation.errors import NotFound
from curation.images.near_duplicates import MAX_DISTANCE

__all__ = ["picture_facts", "sample_or_why"]

Row = Mapping[str, Any]

NEAR: Final = 24
"""Near-duplicates that are listed at most: the nearest."""


def sample_or_why(now: Snapshot, workspace: Workspace, key: str) -> dict[str, Any]:
    """One sample by its key; NotFound says whether it was forgotten or never was there."""
    try:
        return workspace.images.sample(now, key)
    except NotFound:
        if _storable(key) and now.forgotten(pa.array([key], pa.string())):
            raise NotFound("image: was forgotten; nothing that was known of it is kept") from None
        raise NotFound(f"image {key!r}: the catalog has no such image; check the key") from None


def picture_facts(now: Snapshot, workspace: Workspace, sample: Row, runs: Sequence[RunChoice]) -> PictureFacts:
    """What is known of a sample (a row of `Snapshot.samples`), with the predictions of some runs; the boxes that are
    predicted are those of the first."""
    definitions = now.definitions()
    by_id = {each.task_id: each for each in definitions.values()}
    tasks = {name: each.task for name, each in definitions.items()}
    labels = now.labels.of_samples(np.asarray([sample["sample_id"]], np.int64)).to_pylist()
    said = {run.run: now.runs.predictions_of([sample["key"]], run.file).to_pylist() for run in runs if run.file}
    return PictureFacts.model_validate(
        {
            **{name: sample[name] for name in ("key", "location", "dataset", "width", "height", "format", "bytes")},
            **{name: sample[name] for name in ("group", "split", "excluded")},
            "image": workspace.image_path(sample), "commit": now.commit, "labels": _current(definitions, labels),
            "boxes": known_boxes({id_: each.task for id_, each in by_id.items()}, labels),
            "predicted_boxes": predicted_boxes(tasks, next(iter(said.values()), [])),
            "statements": list(_statements(by_id, now.labels.statements_of(sample["sample_id"]).to_pylist())),
            "predictions": [
                PredictedRow(
                    run=run, task=row["task"], value=predicted_words(tasks[row["task"]], row),
                    confidence=finite(row["confidence"]),
                ) for run, rows in said.items() for row in rows if row["task"] in tasks
            ],
            "requests": _requests(now, sample["sample_id"]), "near": _near(now, workspace, sample),
            "items": items_of(workspace.catalog.home, sample["key"]),
            "attributes": [
                AttributeRow(name=name, value=_text(value))
                for name, value in now.attributes_of(sample["sample_id"]).items()
            ],
        }
    )  # fmt: skip


def _current(definitions: Mapping[str, Definition], labels: Iterable[Row]) -> list[CurrentLabel]:
    """The current label of every task, unknown ones last."""
    by_id = {row["task_id"]: row for row in labels}
    found = [
        CurrentLabel(
            task=name, state=state_name(row), value=short_words(each.task, row), source=row["source"] if row else ""
        ) for name, each in definitions.items() for row in [by_id.get(each.task_id)]
    ]  # fmt: skip
    return sorted(found, key=lambda label: label.state == "unknown")


def _statements(definitions: Mapping[int, Definition], rows: Iterable[Row]) -> Iterable[StatementRow]:
    for row in rows:
        each = definitions[row["task_id"]]
        as_stored = each.task.model_copy(update={"classes": each.book})
        yield StatementRow(
            commit=row["commit_id"], at=row["committed_at"], author=row["author"], task=each.task.name,
            annotator=row["annotator"], source=row["source"], state=state_name(row),
            value=label_words(as_stored, row) + _since(each, row), labelled_at=row["labelled_at"],
            instructions=row["instructions"], confidence=row["confidence"],
        )  # fmt: skip


def _since(definition: Definition, row: Row) -> str:
    """What became of the class of a stored label: nothing (""), another name, or no class."""
    if row["state"] != KNOWN or row["code"] is None:
        return ""
    code = definition.codes[row["code"]]
    if code is None:
        return " (no longer a class)"
    name = definition.task.classes[code]
    return "" if name == definition.book[row["code"]] else f" (called {name} since)"


def _requests(now: Snapshot, sample_id: int) -> list[SampleRequest]:
    names = list(SampleRequest.model_fields)
    rows = now.requests.of_sample(sample_id).to_pylist()
    return [SampleRequest.model_validate({name: row[name] for name in names}) for row in rows]


def _near(now: Snapshot, workspace: Workspace, sample: Row) -> list[NearRow]:
    rows = workspace.images.near(now, sample, MAX_DISTANCE).slice(0, NEAR).to_pylist()
    return [NearRow(key=row["key"], image=workspace.image_path(row), distance=row["distance"]) for row in rows]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _storable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
