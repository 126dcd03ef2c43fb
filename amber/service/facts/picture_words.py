"""What is known and what is predicted of images, in words and as boxes, for a few images at a time."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from amber.service.facts.finite import finite
from amber.service.models.slices import BoxRow
from curation.catalog.label_words import label_words
from curation.catalog.schema import KNOWN, STATES
from curation.catalog.tasks import Task
from curation.labelstudio.items import SURE

__all__ = ["is_wrong", "known_boxes", "predicted_boxes", "predicted_words", "short_words", "state_name"]

Row = Mapping[str, Any]

NAMES: Final = {code: name for name, code in STATES.items()}


def state_name(row: Row | None) -> str:
    """The state of a current label: known, unsure, inapplicable, or unknown where there is none."""
    return NAMES[row["state"]] if row else "unknown"


def short_words(task: Task, row: Row | None) -> str:
    """A current label in a few words: boxes by number and class."""
    if row is None:
        return "unknown"
    if row["state"] == KNOWN and row["boxes"] is not None:
        return _counts(task, row["boxes"])
    return label_words(task, row)


def predicted_words(task: Task, row: Row) -> str:
    """A row of `SnapshotRuns.predictions_of` in a few words; a class that the task lacks by its number."""
    if task.kind == "detection":
        return _counts(task, [box for box in row["boxes"] or () if box["score"] >= SURE])
    codes = row["codes"] if task.kind == "multilabel" else None
    if task.kind == "multilabel":
        return ", ".join(_named(task, code) for code in codes or ()) or "none"
    if task.kind == "regression":
        return "" if row["number"] is None else f"{row['number']:.6g} {task.unit}".strip()
    return "" if row["code"] is None else _named(task, row["code"])


def is_wrong(task: Task, known: Row | None, predicted: Row | None) -> bool | None:
    """Whether a prediction differs from a known label: numbers by more than the task's tolerance, several classes in
    one that somebody looked for. None without either, and for boxes."""
    if known is None or predicted is None or known["state"] != KNOWN or task.kind == "detection":
        return None
    if task.kind == "regression":
        return None if predicted["number"] is None else abs(predicted["number"] - known["number"]) > task.tolerance
    if task.kind == "multilabel":
        looked = set(range(len(task.classes)) if known["looked"] is None else known["looked"]) | set(known["codes"])
        return set(predicted["codes"] or ()) & looked != set(known["codes"])
    return bool(predicted["code"] != known["code"])


def known_boxes(tasks: Mapping[int, Task], rows: Iterable[Row]) -> list[BoxRow]:
    """The boxes of some current labels; `tasks` by id."""
    return [
        _box(tasks[row["task_id"]], box) for row in rows
        if row["state"] == KNOWN and row["boxes"] is not None for box in row["boxes"]
    ]  # fmt: skip


def predicted_boxes(tasks: Mapping[str, Task], rows: Iterable[Row]) -> list[BoxRow]:
    """The boxes of some predictions with a score of at least one half; `tasks` by name."""
    return [
        _box(tasks[row["task"]], box) for row in rows
        if row["task"] in tasks and row["boxes"] is not None for box in row["boxes"] if box["score"] >= SURE
    ]  # fmt: skip


def _counts(task: Task, boxes: Sequence[Row]) -> str:
    names = [_named(task, box["code"]) for box in boxes]
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names)) or "no box"


def _named(task: Task, code: int) -> str:
    return task.classes[code] if code < len(task.classes) else f"class {code}"


def _box(task: Task, box: Row) -> BoxRow:
    sides = {side: float(box[side]) for side in "xywh"}
    return BoxRow(task=task.name, name=_named(task, box["code"]), **sides, score=finite(box.get("score")))
