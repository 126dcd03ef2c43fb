"""Annotations: encode a value as Label Studio's results, decode results into a label, and grade gold answers."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.ingestion.readers.box_forms import Box, box, scaled, turned
from curation.labelstudio.client import Json
from curation.labelstudio.item_cache import Item, moment
from curation.labelstudio.label_config import (
    BOXED,
    EMPTY,
    FLAGS,
    IMAGE,
    INAPPLICABLE,
    NONE,
    UNSURE,
    attribute_of,
    state_of,
)

__all__ = ["Answer", "Result", "Value", "decode_answer", "decode_items", "encode_answer", "gold_truths"]

Result = Mapping[str, Any]
"""One result of an annotation or a prediction, in the server's JSON."""

Value = dict[str, Any]
"""The columns of `LABELS` that an answer fills: `state`, and the value if the state is known."""

Truths = Mapping[tuple[str, str], Any]
"""Known values by (sample key, task): a class, a number, or a sorted list of classes."""

STATE_OF_CHOICE: Final = {UNSURE: "unsure", INAPPLICABLE: "inapplicable"}
"""The choices that are a state without a value."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of one annotation for one task.

    `outcome` is known, unsure or inapplicable (a label, with its columns in `value`), skipped, empty, or unfit (`why`
    gives the reason). For a gold question it is gold_right, gold_wrong, gold_unsure, gold_inapplicable, gold_skipped,
    gold_empty or gold_unfit."""

    sample: str
    task: str
    annotator: str
    item: Item
    annotation: int
    outcome: str
    seconds: float
    at: datetime
    value: Value = field(default_factory=dict)
    why: str = ""

    @property
    def id(self) -> tuple[int, int, str]:
        """Project, annotation and task: unique on one server."""
        return self.item.project, self.annotation, self.task

    @property
    def by_other(self) -> bool:
        """Whether the item was given to other people."""
        return bool(self.item.assigned) and self.annotator not in self.item.assigned

    @property
    def origin(self) -> str:
        """Project, item and annotation, in words."""
        return f"project {self.item.project} item {self.item.item} annotation {self.annotation}"


def encode_answer(task: Task, value: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Encode a value as results.

    `value` is a class name, a number, a list of class names, or a list of boxes (dicts of class, x, y, w and h in
    pixels of an image of `size` = (width, height)). BadInput when `decode_answer` would refuse the results.

    >>> from curation.catalog.tasks import Task
    >>> color = Task(name="color", kind="categorical", classes=("red", "green"), owner="ada")
    >>> encode_answer(color, "red", (48, 32))
    [{'from_name': 'color', 'to_name': 'image', 'type': 'choices', 'value': {'choices': ['red']}}]
    """
    results = _encode(task, value, size)
    if decode_answer(task, results, size, f"suggestion {value!r}") is None:
        raise BadInput(f"suggestion {value!r}: holds no value of {task.name}; leave it out")
    return results


def decode_answer(task: Task, results: Sequence[Result], size: tuple[int, int], origin: str) -> Value | None:
    """Decode the results for `task` on an image of `size` (width, height in pixels); None when there are none.

    BadInput, which starts with `origin`, when the results contradict each other or do not fit the task.

    >>> from curation.catalog.tasks import Task
    >>> color = Task(name="color", kind="categorical", classes=("red", "green"), owner="ada")
    >>> decode_answer(color, encode_answer(color, "red", (48, 32)), (48, 32), "item 1")
    {'state': 'known', 'text': 'red'}
    """
    if not all(isinstance(part, Mapping) and isinstance(part.get("value"), Mapping) for part in results):
        raise BadInput(f"{origin}: results without a value; submit the annotation again")
    own = [part for part in results if part.get("from_name") == task.name]
    match task.kind:
        case "regression":
            return _number(task, own, _choices(task, results, state_of(task), origin), origin)
        case "detection":
            said = _attributes(task, results, origin)
            return _boxes(task, own, _choices(task, results, state_of(task), origin), said, size, origin)
    return _classes(task, _choices(task, results, task.name, origin), origin)


def decode_items(
    items: Iterable[Item], tasks: Mapping[str, Task], sizes: Mapping[str, tuple[int, int]],
    people: Mapping[int, str], known: Truths,
) -> list[Answer]:  # fmt: skip
    """The answers in the annotations of `items`.

    Args:
        tasks: definitions by name; other tasks are ignored.
        sizes: (width, height) in pixels by sample key; items of other samples are ignored.
        people: e-mail addresses by user id.
        known: the right answers of gold questions.
    """
    found = []
    for item in items:
        for annotation in item.annotations if item.sample in sizes else ():
            for task in (tasks[name] for name in item.tasks if name in tasks):
                answer = _decode(item, annotation, task, sizes[item.sample], people)
                found.append(_grade(answer, known.get((item.sample, task.name)), task) if item.gold else answer)
    return found


def gold_truths(now: Snapshot, items: Sequence[Item], keys: Mapping[int, str]) -> dict[tuple[str, str], Any]:
    """The known values of the gold tasks of `items`, for the samples in `keys` (key by sample id)."""
    found: dict[tuple[str, str], Any] = {}
    for name in {name for item in items for name in item.gold}:
        classes = now.task(name).classes
        for row in now.labels(name).to_pylist():
            if row["state"] == 1 and row["sample_id"] in keys:
                value = row["number"] if row["code"] is None else classes[row["code"]]
                if row["codes"] is not None:
                    value = sorted(classes[code] for code in row["codes"])
                found[keys[row["sample_id"]], name] = value
    return found


def _decode(item: Item, annotation: Json, task: Task, size: tuple[int, int], people: Mapping[int, str]) -> Answer:
    person = annotation.get("completed_by")
    person = person.get("id") if isinstance(person, dict) else person
    seconds = annotation.get("lead_time")
    answer = Answer(
        sample=item.sample, task=task.name, annotator=people.get(person or 0, f"label_studio:{person}"), item=item,
        annotation=int(annotation["id"]), outcome="skipped",
        at=moment(str(annotation.get("updated_at") or item.updated_at)),
        seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
    )  # fmt: skip
    if annotation.get("was_cancelled"):
        return answer
    results = annotation.get("result")
    try:
        value = decode_answer(task, results if isinstance(results, list) else [{}], size, answer.origin) or {}
    except BadInput as error:
        return replace(answer, outcome="unfit", why=str(error))
    return replace(answer, outcome=value.get("state", "empty"), value=value)


def _grade(answer: Answer, truth: Any, task: Task) -> Answer:
    """Compare the answer to a gold question with its known value."""
    if answer.outcome != "known":
        return replace(answer, outcome=f"gold_{answer.outcome}")
    value = next(answer.value[name] for name in ("text", "number", "names") if name in answer.value)
    if isinstance(value, float):
        right = truth is not None and abs(value - truth) <= task.tolerance
    else:
        right = truth == (sorted(value) if isinstance(value, list) else value)
    return replace(answer, outcome="gold_right" if right else "gold_wrong")


# Encoding


def _encode(task: Task, value: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    match task.kind:
        case "regression":
            return [_result(task.name, "number", float(value))]
        case "multilabel":
            return [_result(task.name, "choices", list(value) or [NONE])]
        case "detection":
            state = _result(state_of(task), "choices", [BOXED if value else EMPTY])
            rectangles = [_rectangle(task, part, size, number) for number, part in enumerate(value)]
            return [state, *rectangles, *_described(task, value)]
    return [_result(task.name, "choices", [FLAGS.get(value, value) if task.kind == "binary" else value])]


def _result(name: str, type_: str, value: Any) -> dict[str, Any]:
    return {"from_name": name, "to_name": IMAGE, "type": type_, "value": {type_: value}}


def _rectangle(task: Task, part: Box, size: tuple[int, int], number: int) -> dict[str, Any]:
    """A box as a rectangle; Label Studio keeps its sides in percent of the image."""
    width, height = size
    sides = {
        "x": part["x"] / width, "y": part["y"] / height, "width": part["w"] / width, "height": part["h"] / height,
    }  # fmt: skip
    return {
        "id": f"{task.name}-{number}", "from_name": task.name, "to_name": IMAGE, "type": "rectanglelabels",
        "original_width": width, "original_height": height, "image_rotation": 0,
        "value": {name: 100 * side for name, side in sides.items()}
        | {"rotation": 0, "rectanglelabels": [part["class"]]},
    }  # fmt: skip


def _described(task: Task, boxes: Sequence[Box]) -> Iterator[dict[str, Any]]:
    """The declared attributes of boxes, each as a result about the rectangle of its box."""
    for number, part in enumerate(boxes):
        stated = dict(part.get("attributes") or ())
        for name, says in task.attributes:
            if name in stated:
                kind, value = ("number", float(stated[name])) if isinstance(says, str) else ("choices", [stated[name]])
                yield {"id": f"{task.name}-{number}", **_result(attribute_of(task, name), kind, value)}


# Decoding


def _choices(task: Task, results: Sequence[Result], name: str, origin: str) -> list[str]:
    """The distinct choices made on the tag `name`, in order."""
    found: list[str] = []
    for part in (part for part in results if part.get("from_name") == name):
        chosen = part["value"].get("choices")
        texts = isinstance(chosen, list) and all(isinstance(word, str) for word in chosen)
        if part.get("type") != "choices" or not texts:
            raise _unfit(task, part, origin)
        found += chosen
    return list(dict.fromkeys(found))


def _classes(task: Task, chosen: list[str], origin: str) -> Value | None:
    if not chosen:
        return None
    exclusive = {UNSURE, INAPPLICABLE, NONE} if task.kind == "multilabel" else set(chosen)
    if len(chosen) > 1 and exclusive.intersection(chosen):
        raise BadInput(f"{origin}: {task.name} is {' and '.join(map(repr, chosen))}, which cannot both hold; ask again")
    if (state := _state(task, chosen)) is not None:
        return state
    names = {shown: name for name, shown in FLAGS.items()} if task.kind == "binary" else {c: c for c in task.classes}
    words = [] if chosen == [NONE] and task.kind == "multilabel" else chosen
    for word in words:
        if word not in names:
            raise BadInput(f"{origin}: {word!r} is no class of {task.name}; add the class to the task, or ask again")
    found = [names[word] for word in words]
    return {"state": "known", "names": found} if task.kind == "multilabel" else {"state": "known", "text": found[0]}


def _state(task: Task, chosen: list[str]) -> Value | None:
    """The label of a choice that is a state without a value; a class of that name comes first."""
    word = chosen[0] if len(chosen) == 1 and chosen[0] not in task.classes else ""
    return {"state": STATE_OF_CHOICE[word]} if word in STATE_OF_CHOICE else None


def _number(task: Task, results: Sequence[Result], state: list[str], origin: str) -> Value | None:
    if not results:
        return _state(task, state)
    value = results[-1]["value"].get("number")
    if state:
        raise BadInput(f"{origin}: {task.name} is {value!r} and {state[0]!r}, which cannot both hold; ask again")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _unfit(task, results[-1], origin)
    return {"state": "known", "number": float(value)}


def _attributes(task: Task, results: Sequence[Result], origin: str) -> dict[str, dict[str, Any]]:
    """What is said of each region, by its id: attributes by name. BadInput for a region that is no box of the task."""
    regions = {part.get("id") for part in results if part.get("from_name") == task.name}
    found: dict[str, dict[str, Any]] = {}
    for name, says in task.attributes:
        for part in (part for part in results if part.get("from_name") == attribute_of(task, name)):
            region, value = part.get("id"), part["value"]
            said = value.get("number") if isinstance(says, str) else value.get("choices")
            if isinstance(said, list) and len(said) == 1 and said[0] in says:
                said = said[0]
            elif not isinstance(says, str) or isinstance(said, bool) or not isinstance(said, int | float):
                raise _unfit(task, part, origin)
            if region not in regions:
                raise BadInput(f"{origin}: {name} = {said!r} is said of {region!r}, which is no box; ask again")
            found.setdefault(str(region), {})[name] = said
    return found


def _boxes(
    task: Task, results: Sequence[Result], state: list[str], said: Mapping[str, Mapping[str, Any]],
    size: tuple[int, int], origin: str,
) -> Value | None:  # fmt: skip
    if len(state) > 1 or (results and state == [EMPTY]) or (not results and state == [BOXED]):
        raise BadInput(f"{origin}: {task.name} has {len(results)} boxes and {state}, which cannot both hold; ask again")
    if (without := _state(task, state)) is not None:
        return without
    if not state and not results:
        return None
    return {
        "state": "known",
        "boxes": [_box(task, part, said.get(str(part.get("id"))), size, origin) for part in results],
    }


def _box(task: Task, part: Result, said: Mapping[str, Any] | None, size: tuple[int, int], origin: str) -> Box:
    """A rectangle in percent of the image, as a box in pixels; a turned one becomes the upright box around it."""
    value, names = part["value"], part["value"].get("rectanglelabels")
    try:
        x, y, w, h, turn = (float(value.get(side, 0) or 0) for side in ("x", "y", "width", "height", "rotation"))
    except (TypeError, ValueError):
        raise _unfit(task, part, origin) from None
    if not isinstance(names, list) or len(names) != 1 or names[0] not in task.classes or not (w > 0 and h > 0):
        raise _unfit(task, part, origin)
    upright = scaled(size, x / 100, y / 100, w / 100, h / 100)
    return box(names[0], *(turned(*upright, turn) if turn % 360 else upright), said)


def _unfit(task: Task, part: Result, origin: str) -> BadInput:
    value = str(part.get("value"))[:60]
    return BadInput(f"{origin}: {value} is no answer for {task.name}, a {task.kind} task; ask again")
