"""Items: one item shows people one sample and asks for all of its requested labels at once."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.labelstudio.annotations import Result, encode_answer
from curation.labelstudio.assigning import shown_people
from curation.labelstudio.client import Json
from curation.labelstudio.label_config import ASSIGNED, FLAGS, KEY, MODEL, LabelConfig
from curation.labelstudio.session import VERSION
from curation.labelstudio.shown_images import ShownImages
from curation.requests.evaluation_labels import EVALUATION_ARMS

__all__ = [
    "SURE",
    "Prediction",
    "Question",
    "by_key",
    "gold_questions",
    "item_data",
    "meta",
    "predicted_value",
    "questions",
    "to_import",
]

Errors = Callable[[Sequence[Result]], Sequence[str]]
"""Finds the errors in the results of a pre-annotation."""

LAST: Final = 1_000_000
"""Priorities from here on share the last rank, and those below 0 the first: the server accepts scores from 0 to 1."""

SURE: Final = 0.5
"""The score from which on a box is the model's view."""

GOLD_TASKS: Final = ("binary", "categorical", "multilabel", "regression")
"""Kinds of tasks whose answers are right or wrong."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A predicted value: a class name, a number in the unit of the task, or a list of class names or of boxes.

    `confidence` is in [0, 1]; None where it is unknown.
    """

    value: Any
    confidence: float | None = None


def predicted_value(task: Task, row: Mapping[str, Any]) -> Any:
    """The value of a row of a predictions file: of boxes those with a score of at least one half."""
    if task.kind == "detection":
        sure = [box for box in row.get("boxes") or () if box["score"] >= SURE]
        return [
            {"class": task.classes[box["code"]], **{side: box[side] for side in "xywh"}, **_described(task, box)}
            for box in sure
        ]
    if task.kind == "multilabel":
        return [task.classes[code] for code in row.get("codes") or () if code < len(task.classes)]
    code, number = row.get("code"), row.get("number")
    return number if code is None else task.classes[code] if code < len(task.classes) else str(code)


def _described(task: Task, box: Mapping[str, Any]) -> dict[str, Any]:
    """What is predicted of the declared attributes of a box, where there is anything."""
    declared = dict(task.attributes)
    said = [
        (name, value) for name, value in box.get("attributes") or ()
        if name in declared and (isinstance(declared[name], str) or value in declared[name])
    ]  # fmt: skip
    return {"attributes": said} if said else {}


@dataclass(frozen=True, kw_only=True)
class Question:
    """A future item: a sample (a row of `Snapshot.samples`), and its label request by task.

    A gold question has no requests; `gold` names its tasks, whose answers are known. Lower priorities come first.
    `runs` names the run whose prediction is the model's view of each task ("": none), `reasons` why each label is
    requested. `people` are asked (none: everybody).
    """

    sample: Mapping[str, Any]
    requests: Mapping[str, int]
    gold: tuple[str, ...] = ()
    priority: int = 0
    runs: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    people: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The requested tasks, by name."""
        return tuple(sorted([*self.requests, *self.gold]))

    def key(self, workspace: str) -> str:
        """A key that is equal for equal questions and does not reveal which questions are gold."""
        text = repr((workspace, self.sample["key"], sorted(self.requests.items()), self.gold))
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def questions(
    requests: pa.Table, samples: pa.Table, *, sent: Collection[int], tasks: Collection[str],
    people_of: Callable[[str], frozenset[str]] = lambda task: frozenset(),
) -> list[Question]:  # fmt: skip
    """One question for each sample with open requests for `tasks` whose ids are not in `sent`, most urgent first.

    Tasks that are given to different people (`people_of`) make questions of their own.
    """
    open_: dict[tuple[str, frozenset[str]], list[dict[str, Any]]] = defaultdict(list)
    for row in requests.sort_by("priority").to_pylist():
        if row["request_id"] not in sent and row["task"] in tasks:
            open_[row["key"], people_of(row["task"])].append(row)
    rows = by_key(samples, {key for key, _ in open_})
    return [
        Question(
            sample=rows[key],
            requests={row["task"]: row["request_id"] for row in reversed(own)},
            priority=min(row["priority"] for row in own),
            runs={row["task"]: "" if row["arm"] in EVALUATION_ARMS else row["run"] for row in own},
            reasons={row["task"]: f"{row['arm']}: {row['reason']}" for row in own},
        )
        for (key, _), own in open_.items()
        if key in rows
    ]


def gold_questions(
    asked: Sequence[Question], known: Mapping[str, Collection[str]], samples: pa.Table, tasks: Mapping[str, Task], *,
    share: float,
) -> list[Question]:  # fmt: skip
    """Gold questions that make up `share` of a queue together with `asked`, spread over the queue.

    `known` holds the keys of samples with a known label, by task. Equal queues get equal gold questions.
    """
    pages: dict[tuple[str, ...], list[Question]] = defaultdict(list)
    for question in asked:
        pages[question.tasks].append(question)
    chosen: list[tuple[str, Question, tuple[str, ...]]] = []
    for names, queue in pages.items():
        if not all(tasks[name].kind in GOLD_TASKS for name in names):
            continue
        fit = set.intersection(*(set(known.get(name, ())) for name in names)) - {q.sample["key"] for q in queue}
        count = min(round(len(queue) * share / (1 - share)), len(fit))
        keys = sorted(fit, key=lambda key: hashlib.sha256(key.encode()).digest())[:count]
        chosen += [(key, queue[number * len(queue) // count], names) for number, key in enumerate(keys)]
    rows = by_key(samples, {key for key, _, _ in chosen})
    return [
        Question(
            sample=rows[key], requests={}, gold=names, priority=beside.priority,
            runs=dict.fromkeys(names, next(iter(beside.runs.values()), "")),
        )
        for key, beside, names in chosen
    ]  # fmt: skip


def to_import(
    question: Question, page: LabelConfig, workspace: str, *, shown: ShownImages, until: float,
    predicted: Mapping[tuple[str, str, str], Prediction], errors: Errors,
    prefill: bool, versions: Mapping[str, int],
) -> tuple[Json, int]:  # fmt: skip
    """An item in the form of the server's import, and how many predictions were left out of it.

    The URLs of its images expire at `until` (seconds since 1970; 0: never). `predicted` holds predictions by (run,
    task, sample key); they are shown as the model's view, and with `prefill` also filled in as the answer. A prediction
    is left out when it does not fit its task, or when `errors` finds an error in its results. `versions` has the
    version of each task's instructions.
    """
    sample = question.sample
    views, results, unfit = _predictions(question, page, predicted, errors)
    score = min(max(question.priority, 0), LAST) / LAST
    item = {
        "data": item_data(shown.fields(sample, question.tasks), question.key(workspace), views, question.people),
        "meta": meta(
            sample["key"],
            question.requests,
            question.gold,
            until,
            instructions=_of(versions, question.tasks),
            reasons=question.reasons,
            priority=question.priority,
        ),
        "predictions": [{"model_version": VERSION, "score": score, "result": results if prefill else []}],
    }
    return item, unfit


def item_data(images: Mapping[str, str], key: str, views: Mapping[str, str], people: Sequence[str]) -> Json:
    """The data of an item: what it shows, our key, the model's views, and who is asked."""
    return {**images, KEY: key, ASSIGNED: shown_people(people), **views}


def meta(
    sample: str, requests: Mapping[str, int], gold: Sequence[str], until: float, *, instructions: Mapping[str, int],
    reasons: Mapping[str, str], priority: int,
) -> Json:  # fmt: skip
    """The metadata of an item, which the labelling page does not show: a reason would prompt the answer."""
    ours = {
        "sample": sample, "requests": dict(requests), "gold": list(gold), "until": until,
        "instructions": dict(instructions), "reasons": dict(reasons), "priority": priority,
    }  # fmt: skip
    return {"amber": ours}


def by_key(samples: pa.Table, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The rows of `samples` with these keys, by key."""
    found = samples.filter(pc.is_in(samples["key"], value_set=pa.array(sorted(keys), pa.string())))
    return {row["key"]: row for row in found.to_pylist()}


def _of(versions: Mapping[str, int], tasks: Iterable[str]) -> dict[str, int]:
    return {task: versions.get(task, 0) for task in tasks}


def _predictions(
    question: Question, page: LabelConfig, predicted: Mapping[tuple[str, str, str], Prediction], errors: Errors
) -> tuple[dict[str, str], list[Result], int]:
    """The model's views as fields of an item's data, the same predictions as results, and how many do not fit."""
    size = int(question.sample["width"]), int(question.sample["height"])
    views = {f"{MODEL}{task.name}": "" for task in page.tasks}
    results: list[Result] = []
    unfit = 0
    for task in page.tasks:
        prediction = predicted.get((question.runs.get(task.name, ""), task.name, question.sample["key"]))
        if prediction is None:
            continue
        try:
            value = _within(prediction.value, size) if task.kind == "detection" else prediction.value
            encoded = encode_answer(task, value, size)
        except BadInput:
            encoded = []
        if not encoded or errors(encoded):
            unfit += 1
            continue
        views[f"{MODEL}{task.name}"] = _view(task, prediction)
        results += encoded
    return views, results, unfit


def _within(value: Any, size: tuple[int, int]) -> Any:
    """The boxes, cut off at the edges of the image, beyond which a detector may predict and nobody can draw."""
    found = []
    for box in value:
        left, top = max(0.0, box["x"]), max(0.0, box["y"])
        right, bottom = min(float(size[0]), box["x"] + box["w"]), min(float(size[1]), box["y"] + box["h"])
        found.append({**box, "x": left, "y": top, "w": right - left, "h": bottom - top})
    return [box for box in found if box["w"] > 0 and box["h"] > 0]


def _view(task: Task, prediction: Prediction) -> str:
    """The model's view of a task, as annotators read it."""
    value = prediction.value
    if task.kind == "multilabel":
        sure = "" if prediction.confidence is None else f" (least sure {prediction.confidence:.0%})"
        return f"model: {', '.join(value) or 'none of these'}{sure}"
    if isinstance(value, list):
        counts = Counter(box["class"] for box in value)
        return f"model: {', '.join(f'{count} {name}' for name, count in counts.items()) or 'no box'}"
    if isinstance(value, float):
        text = f"{value:.6g} {task.unit}".strip()
    else:
        text = FLAGS.get(value, value) if task.kind == "binary" else str(value)
    confidence = "" if prediction.confidence is None else f" (confidence {prediction.confidence:.0%})"
    return f"model: {text}{confidence}"
