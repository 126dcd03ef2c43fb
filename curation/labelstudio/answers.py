"""Answers as Label Studio writes them: what an annotation's results say of a task, and the same the other way round."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.ingest.readers.box_forms import Box, box, scaled, turned
from curation.labelstudio.label_config import BOXED, EMPTY, FLAGS, IMAGE, NONE, UNSURE, state_of

__all__ = ["Result", "Said", "read_answer", "suggest"]

Result = Mapping[str, Any]
"""One result of an annotation or a prediction, as the server's JSON has it."""

Said = dict[str, Any]
"""The columns of `LABELS` that an answer fills: `state`, and the value of a known one."""

UNSURE_SAID: Final[Said] = {"state": "unsure"}


def read_answer(task: Task, results: Sequence[Result], size: tuple[int, int], origin: str) -> Said | None:
    """What `results` say of `task` on an image of `size` (width, height in pixels); None when they say nothing.

    BadInput, which begins with `origin`, when they contradict themselves or say what the task does not take.
    """
    if not all(isinstance(part, Mapping) and isinstance(part.get("value"), Mapping) for part in results):
        raise BadInput(f"{origin}: results without a value; submit the annotation again")
    mine = [part for part in results if part.get("from_name") == task.name]
    match task.kind:
        case "regression":
            return _number(task, mine, _chosen(task, results, state_of(task), origin), origin)
        case "detection":
            return _boxed(task, mine, _chosen(task, results, state_of(task), origin), size, origin)
    return _classes(task, _chosen(task, results, task.name, origin), origin)


def suggest(task: Task, value: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The results by which a value is suggested: a class name, a number, a list of class names, or of boxes (dicts of
    class, x, y, w and h in pixels of an image of `size`).

    BadInput when `read_answer` would not take them: nothing on the server looks at a suggestion.
    """
    results = _suggested(task, value, size)
    if read_answer(task, results, size, f"suggestion {value!r}") is None:
        raise BadInput(f"suggestion {value!r}: says nothing of {task.name}; leave it out")
    return results


def _suggested(task: Task, value: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    match task.kind:
        case "regression":
            return [_result(task.name, "number", float(value))]
        case "multilabel":
            return [_result(task.name, "choices", list(value) or [NONE])]
        case "detection":
            state = _result(state_of(task), "choices", [BOXED if value else EMPTY])
            return [state, *(_rectangle(task, part, size, place) for place, part in enumerate(value))]
    return [_result(task.name, "choices", [FLAGS.get(value, value) if task.kind == "binary" else value])]


def _result(name: str, type_: str, value: Any) -> dict[str, Any]:
    return {"from_name": name, "to_name": IMAGE, "type": type_, "value": {type_: value}}


def _rectangle(task: Task, part: Box, size: tuple[int, int], place: int) -> dict[str, Any]:
    (width, height), percent = size, {}
    percent = {
        "x": part["x"] / width,
        "y": part["y"] / height,
        "width": part["w"] / width,
        "height": part["h"] / height,
    }
    return {
        "id": f"{task.name}-{place}", "from_name": task.name, "to_name": IMAGE, "type": "rectanglelabels",
        "original_width": width, "original_height": height, "image_rotation": 0,
        "value": {name: 100 * side for name, side in percent.items()}
        | {"rotation": 0, "rectanglelabels": [part["class"]]},
    }  # fmt: skip


def _chosen(task: Task, results: Sequence[Result], name: str, origin: str) -> list[str]:
    """What was chosen on one tag, each once."""
    found: list[str] = []
    for part in results:
        if part.get("from_name") == name:
            chosen = part["value"].get("choices")
            if (
                part.get("type") != "choices"
                or not isinstance(chosen, list)
                or not all(isinstance(word, str) for word in chosen)
            ):
                raise _unfit(task, part, origin)
            found += chosen
    return list(dict.fromkeys(found))


def _classes(task: Task, chosen: list[str], origin: str) -> Said | None:
    if not chosen:
        return None
    alone = {UNSURE, NONE} if task.kind == "multilabel" else set(chosen)
    if len(chosen) > 1 and alone.intersection(chosen):
        raise BadInput(f"{origin}: {task.name} is {' and '.join(map(repr, chosen))}, which cannot both hold; ask again")
    if chosen == [UNSURE]:
        return dict(UNSURE_SAID)
    names = {shown: name for name, shown in FLAGS.items()} if task.kind == "binary" else {c: c for c in task.classes}
    said = [] if chosen == [NONE] and task.kind == "multilabel" else chosen
    for word in said:
        if word not in names:
            raise BadInput(f"{origin}: {word!r} is no class of {task.name}; put the choice into the task, or ask again")
    named = [names[word] for word in said]
    return {"state": "known", "names": named} if task.kind == "multilabel" else {"state": "known", "text": named[0]}


def _number(task: Task, results: Sequence[Result], state: list[str], origin: str) -> Said | None:
    if not results:
        return dict(UNSURE_SAID) if state == [UNSURE] else None
    value = results[-1]["value"].get("number")
    if state:
        raise BadInput(f"{origin}: {task.name} is {value!r} and {state[0]!r}, which cannot both hold; ask again")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _unfit(task, results[-1], origin)
    return {"state": "known", "number": float(value)}


def _boxed(task: Task, results: Sequence[Result], state: list[str], size: tuple[int, int], origin: str) -> Said | None:
    if len(state) > 1 or (results and state == [EMPTY]) or (not results and state == [BOXED]):
        raise BadInput(f"{origin}: {task.name} has {len(results)} boxes and {state}, which cannot both hold; ask again")
    if state == [UNSURE]:
        return dict(UNSURE_SAID)
    if not state and not results:
        return None
    return {"state": "known", "boxes": [_box(task, part, size, origin) for part in results]}


def _box(task: Task, part: Result, size: tuple[int, int], origin: str) -> Box:
    """One rectangle, which Label Studio keeps in percent of the image."""
    value, names = part["value"], part["value"].get("rectanglelabels")
    try:
        x, y, w, h, turn = (float(value.get(side, 0) or 0) for side in ("x", "y", "width", "height", "rotation"))
    except (TypeError, ValueError):
        raise _unfit(task, part, origin) from None
    if not isinstance(names, list) or len(names) != 1 or names[0] not in task.classes or not (w > 0 and h > 0):
        raise _unfit(task, part, origin)
    upright = scaled(size, x / 100, y / 100, w / 100, h / 100)
    return box(names[0], *(turned(*upright, turn) if turn % 360 else upright))


def _unfit(task: Task, part: Result, origin: str) -> BadInput:
    said = str(part.get("value"))[:60]
    return BadInput(f"{origin}: {said} is no answer for {task.name}, a {task.kind} task; ask again")
