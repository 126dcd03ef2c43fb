"""Reading: what the annotations of an item say of each task that it asks for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.labelstudio.answers import Said, read_answer
from curation.labelstudio.client import Json
from curation.labelstudio.item_cache import Item, moment

__all__ = ["Answer", "read_answers", "truths"]

Truths = Mapping[tuple[str, str], Any]
"""What is known, by (key of the sample, task): a class, a number, or a sorted list of classes."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one annotation says of one task, and what comes of it.

    `outcome` is known or unsure (a label, whose columns `said` holds), skipped, empty, or unfit (`why` says why); to a
    gold question it is gold_right, gold_wrong, gold_unsure, gold_skipped, gold_empty or gold_unfit.
    """

    sample: str
    task: str
    annotator: str
    item: Item
    annotation: int
    outcome: str
    seconds: float
    at: datetime
    said: Said = field(default_factory=dict)
    why: str = ""

    @property
    def id(self) -> tuple[int, int, str]:
        """What tells it from all others of its server."""
        return self.item.project, self.annotation, self.task

    @property
    def place(self) -> str:
        """Where it was given."""
        return f"project {self.item.project} item {self.item.item} annotation {self.annotation}"


def read_answers(
    items: Iterable[Item], tasks: Mapping[str, Task], sizes: Mapping[str, tuple[int, int]],
    people: Mapping[int, str], known: Truths,
) -> list[Answer]:  # fmt: skip
    """What is said of the samples of which `sizes` holds width and height, by `people` (addresses by id); answers to
    gold questions are held against what is `known`."""
    found = []
    for item in items:
        for annotation in item.annotations if item.sample in sizes else ():
            for task in (tasks[name] for name in item.tasks if name in tasks):
                answer = _read(item, annotation, task, sizes[item.sample], people)
                found.append(_judged(answer, known.get((item.sample, task.name)), task) if item.gold else answer)
    return found


def truths(now: Snapshot, items: Sequence[Item], keys: Mapping[int, str]) -> dict[tuple[str, str], Any]:
    """What is known of the samples (`keys` by id) of gold questions."""
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


def _read(item: Item, told: Json, task: Task, size: tuple[int, int], people: Mapping[int, str]) -> Answer:
    person = told.get("completed_by")
    person = person.get("id") if isinstance(person, dict) else person
    seconds = told.get("lead_time")
    answer = Answer(
        sample=item.sample, task=task.name, annotator=people.get(person or 0, f"label_studio:{person}"), item=item,
        annotation=int(told["id"]), outcome="skipped", at=moment(str(told.get("updated_at") or item.updated_at)),
        seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
    )  # fmt: skip
    if told.get("was_cancelled"):
        return answer
    results = told.get("result")
    try:
        said = read_answer(task, results if isinstance(results, list) else [{}], size, answer.place) or {}
    except BadInput as error:
        return replace(answer, outcome="unfit", why=str(error))
    return replace(answer, outcome=said.get("state", "empty"), said=said)


def _judged(answer: Answer, truth: Any, task: Task) -> Answer:
    if answer.outcome != "known":
        return replace(answer, outcome=f"gold_{answer.outcome}")
    value = next(answer.said[name] for name in ("text", "number", "names") if name in answer.said)
    if isinstance(value, float):
        right = truth is not None and abs(value - truth) <= task.tolerance
    else:
        right = truth == (sorted(value) if isinstance(value, list) else value)
    return replace(answer, outcome="gold_right" if right else "gold_wrong")
