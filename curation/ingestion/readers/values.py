"""Labels from JSON values."""

from collections.abc import Mapping
from typing import Any

from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.ingestion.readers.box_forms import box
from curation.ingestion.readers.class_states import class_states
from curation.ingestion.readers.findings import BadEntry

__all__ = ["FLAGS", "box_of", "value_of"]

FLAGS = {
    "true": "true", "false": "false", "1": "true", "0": "false", "1.0": "true", "0.0": "false", "yes": "true",
    "no": "false",
}  # fmt: skip
"""Words for the classes of a binary task, in lower case."""


def value_of(task: Task, value: Any, origin: str) -> dict[str, Any]:
    """The columns of `LABELS` that `value` fills for `task`; BadInput, with `origin`, if the value has another kind.

    A class may be given by its number in the task; several classes as a list, or as an object of flags. The
    ledger checks whether the task has the class.
    """
    match task.kind:
        case "regression":
            return {"number": _number(value, task, origin)}
        case "multilabel" if isinstance(value, Mapping):
            return class_states(value, task.name, origin)
        case "multilabel":
            return {"names": [_class(part, task, origin) for part in _list(value, task, origin)]}
        case "detection":
            return {"boxes": [box_of(part, origin) for part in _list(value, task, origin)]}
    return {"text": _class(value, task, origin)}


def box_of(part: Any, origin: str) -> dict[str, Any]:
    """A box from an object with class, x, y, w and h, and optional attributes."""
    try:
        attributes = part.get("attributes") or {}
        x, y, w, h = [float(part[side]) for side in "xywh"]
        return box(str(part["class"]), x, y, w, h, dict(attributes))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadEntry(origin, str(part)[:60], "is no box", "give it class, x, y, w and h in pixels") from None


def _class(value: Any, task: Task, origin: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():  # pandas writes whole numbers beside missing ones so
        value = int(value)
    if not isinstance(value, str | int):
        raise _other(value, task, origin)
    text = str(value).strip()
    if isinstance(value, int) and text not in task.classes and 0 <= value < len(task.classes):
        return task.classes[value]
    return FLAGS.get(text.lower(), text) if task.kind == "binary" else text


def _number(value: Any, task: Task, origin: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise _other(value, task, origin) from None
    if isinstance(value, int) and int(number) != value:
        raise BadInput(f"{origin}: {task.name} = {value} would be rounded as a number; use a smaller unit")
    return number


def _list(value: Any, task: Task, origin: str) -> list[Any]:
    if not isinstance(value, list):
        raise _other(value, task, origin)
    return value


def _other(value: Any, task: Task, origin: str) -> BadInput:
    return BadEntry(
        origin, repr(str(value)[:60]), f"is no label of {task.name}, a {task.kind} task", "correct it or leave it out"
    )
