"""The images of a slice, page by page: what is known of a task, what a run predicts, and filters over both."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from amber.service.access import Workspace
from amber.service.facts.finite import finite
from amber.service.facts.picture_words import (
    is_wrong,
    known_boxes,
    predicted_boxes,
    predicted_words,
    short_words,
    state_name,
)  # fmt: skip
from amber.service.facts.run_choice import RunChoice
from amber.service.models.slices import PictureRow
from curation.catalog.arrow_query import quoted
from curation.catalog.pages import Position
from curation.catalog.predicate_tree import quoted_name
from curation.catalog.slice_vetting import vet
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput

__all__ = ["Labelled", "PictureFilter", "picture_page", "picture_rows", "shown_keys"]

Labelled = Literal["", "known", "unknown", "unsure", "inapplicable"]

ALL_SECONDS: Final = 10.0
"""Longest time to find all images that the filters show."""

PATIENCE: Final = 0.15
"""Seconds after which no further images are looked for where few of a slice pass the filters."""


@dataclass(frozen=True, kw_only=True)
class PictureFilter:
    """Which images to show, of those of a slice: of a split, by the state of the label of `task`, those that the run
    predicts to be `predicted`, those that it predicts wrong. "" filters nothing."""

    task: str = ""
    split: str = ""
    state: Labelled = ""
    predicted: str = ""
    wrong: bool = False

    def text(self, task: Task | None) -> str:
        """The filters as a predicate, "" for none; BadInput for filters that the task does not have."""
        parts = [f"attr.split = {quoted(self.split)}"] if self.split else []
        if (self.state or self.predicted or self.wrong) and task is None:
            raise BadInput("filter: by label or prediction needs a task; name one")
        if task is not None and self.state:
            parts.append(f"state.{quoted_name(task.name)} = {quoted(self.state)}")
        if task is not None and (self.predicted or self.wrong):
            if not task.outputs:
                raise BadInput(f"filter: predictions of {task.name} are boxes, by which no image is filtered; leave it")
            parts += [_predicted(task, self.predicted)] if self.predicted else []
            parts += [_wrong(task)] if self.wrong else []
        return " AND ".join(f"({part})" for part in parts)


def picture_page(
    now: Snapshot, workspace: Workspace, predicate: str, shown: PictureFilter, run: RunChoice, after: Position = (), *,
    limit: int,
) -> tuple[list[PictureRow], Position | None]:  # fmt: skip
    """The next images for which a canonical predicate and the filters are true, in the order in which they were added,
    and the position after which the next page begins (None at the end).

    A page may be shorter, or empty, before the end: images are looked for during `PATIENCE` seconds. NotFound for
    predictions without a run.
    """
    task = now.task(shown.task) if shown.task else None
    predicate = _filtered(now, predicate, shown)
    end, found = time.monotonic() + PATIENCE, list[dict[str, Any]]()
    position: Position | None = after
    while position is not None and len(found) < limit:
        page = now.sample_page(position, limit=limit - len(found), predicate=predicate, predictions=run.file)
        found += page.rows.to_pylist()
        position = page.next
        if time.monotonic() > end:
            break
    return picture_rows(now, workspace, found, task, run), position


def shown_keys(now: Snapshot, predicate: str, shown: PictureFilter, run: RunChoice, *, most: int) -> list[str]:
    """The keys of all images for which a canonical predicate and the filters are true; BadInput for more than
    `most`."""
    filtered = _filtered(now, predicate, shown)
    ids = now.members(filtered, predictions=run.file, seconds=ALL_SECONDS)
    if len(ids) > most:
        raise BadInput(f"pictures: {len(ids):,} pass the filters, at most {most:,} are changed at once; filter further")
    found = now.view.table(f"SELECT sample_id, key FROM ({now.view.of(ids).samples_sql}) ORDER BY sample_id")
    return [str(key) for key in found["key"].to_pylist()]


def picture_rows(
    now: Snapshot, workspace: Workspace, samples: Iterable[Mapping[str, Any]], task: Task | None, run: RunChoice
) -> list[PictureRow]:
    """Samples (rows of `Snapshot.samples`, few) with the label and the prediction of a task, and with all boxes."""
    samples = list(samples)
    tasks = {definition.task_id: definition.task for definition in now.definitions().values()}
    by_name = {each.name: each for each in tasks.values()}
    wanted = [id_ for id_, each in tasks.items() if each.kind == "detection" or each == task]
    ids = np.asarray(sorted(row["sample_id"] for row in samples), np.int64)
    known: dict[int, list[dict[str, Any]]] = {}
    for row in now.labels.of_samples(ids, wanted).to_pylist() if wanted and samples else []:
        known.setdefault(row["sample_id"], []).append(row)
    said: dict[str, list[dict[str, Any]]] = {}
    keys, names = [row["key"] for row in samples], [tasks[id_].name for id_ in wanted]
    for row in now.runs.predictions_of(keys, run.file, names).to_pylist() if run.file else []:
        said.setdefault(row["key"], []).append(row)
    return [
        _picture(workspace, row, task, tasks, by_name, known.get(row["sample_id"], []), said.get(row["key"], []))
        for row in samples
    ]


def _filtered(now: Snapshot, predicate: str, shown: PictureFilter) -> str:
    """A canonical predicate AND the filters."""
    text = shown.text(now.task(shown.task) if shown.task else None)
    return f"(({predicate}) AND ({vet(text, now.frame())}))" if text else predicate


def _picture(
    workspace: Workspace, sample: Mapping[str, Any], task: Task | None, tasks: Mapping[int, Task],
    by_name: Mapping[str, Task], known: list[dict[str, Any]], said: list[dict[str, Any]],
) -> PictureRow:  # fmt: skip
    label = next((row for row in known if tasks[row["task_id"]] == task), None)
    prediction = next((row for row in said if task and row["task"] == task.name), None)
    return PictureRow.model_validate(
        {
            **{name: sample[name] for name in ("key", "width", "height", "split", "excluded")},
            "image": workspace.image_path(sample), "state": state_name(label) if task else "unknown",
            "truth": short_words(task, label) if task else "",
            "predicted": predicted_words(task, prediction) if task and prediction else "",
            "confidence": finite(prediction["confidence"]) if prediction else None,
            "wrong": is_wrong(task, label, prediction) if task else None,
            "boxes": known_boxes(tasks, known), "predicted_boxes": predicted_boxes(by_name, said),
        }
    )  # fmt: skip


def _predicted(task: Task, name: str) -> str:
    """That the run predicts a class."""
    column = f"pred.{quoted_name(task.name)}"
    if task.kind == "regression":
        raise BadInput(f"filter: {task.name} is predicted as a number, not as a class; leave the class out")
    if name not in task.classes:
        raise BadInput(f"filter: {task.name} has no class {name!r}; its classes are {', '.join(task.classes)}")
    if task.kind == "binary":
        return column if name == "true" else f"NOT {column}"
    return (
        f"list_contains({column}.value, {quoted(name)})" if task.kind == "multilabel" else f"{column} = {quoted(name)}"
    )


def _wrong(task: Task) -> str:
    """That the run predicts another label than is known, as `picture_words.is_wrong` has it."""
    said, label = f"pred.{quoted_name(task.name)}.value", f"label.{quoted_name(task.name)}"
    if task.kind == "regression":
        return f"abs({said} - {label}) > {task.tolerance!r}"
    if task.kind == "multilabel":
        looked = f"looked.{quoted_name(task.name)}"
        counted = f"list_filter({said}, lambda c: list_contains({looked}, c) OR list_contains({label}, c))"
        return f"list_sort({counted}) <> list_sort({label})"
    return f"{said} <> {label}"
