"""Labels in words, as people read them."""

from collections.abc import Mapping
from typing import Any

from curation.catalog.schema import KNOWN, STATES
from curation.catalog.tasks import Task

__all__ = ["label_words"]


def label_words(task: Task, row: Mapping[str, Any]) -> str:
    """The value of a label of `task` (a row of `Snapshot.labels`) in words; its state where it has no value.

    >>> task = Task(name="speed", kind="regression", unit="km/h", metric="mae", owner="ada")
    >>> label_words(task, {"state": 1, "number": 30.0, "boxes": None, "codes": None, "code": None})
    '30 km/h'
    """
    if row["state"] != KNOWN:
        return next(name for name, state in STATES.items() if state == row["state"])
    if row["boxes"] is not None:
        return ", ".join(_box(task, box) for box in row["boxes"]) or "no box"
    if row["codes"] is not None:
        return ", ".join(task.classes[code] for code in row["codes"]) or "none"
    if row["number"] is not None:
        return f"{row['number']:.6g} {task.unit}".strip()
    return str(task.classes[row["code"]])


def _box(task: Task, box: Mapping[str, Any]) -> str:
    return f"{task.classes[box['code']]} at {', '.join(format(box[side], '.0f') for side in 'xywh')}"
