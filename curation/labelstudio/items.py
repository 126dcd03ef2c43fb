"""Items: what is put before people. One item asks for all that is wanted of a sample at once."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.labelstudio.answers import suggest
from curation.labelstudio.client import Json
from curation.labelstudio.label_config import IMAGE, KEY, Form
from curation.labelstudio.session import VERSION

__all__ = ["Question", "UrlFor", "by_key", "gold_questions", "meta", "questions", "to_import"]

UrlFor = Callable[[Mapping[str, Any]], str]
"""Gives the URL at which people's browsers find the image of a sample: a row of `Snapshot.samples`."""

LAST: Final = 1_000_000
"""Priorities from here on share the last place: the server takes scores from 0 to 1."""

GOLD_TASKS: Final = ("binary", "categorical", "multilabel", "regression")
"""Kinds of tasks in which an answer is right or wrong."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One item to be: a sample (a row of `Snapshot.samples`), the label request of each task, or the tasks of which
    the answer is known (`gold`). Lower priorities come first."""

    sample: Mapping[str, Any]
    requests: Mapping[str, int]
    gold: tuple[str, ...] = ()
    priority: int = 0
    runs: Mapping[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it asks for, by name."""
        return tuple(sorted([*self.requests, *self.gold]))

    def key(self, workspace: str) -> str:
        """The same question has the same key; it does not tell people which questions are gold."""
        text = repr((workspace, self.sample["key"], sorted(self.requests.items()), self.gold))
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def questions(
    requests: pa.Table, samples: pa.Table, *, sent: Collection[int], tasks: Collection[str]
) -> list[Question]:
    """A question for each sample with open requests for `tasks` that were not `sent`, most urgent first."""
    wanted: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in requests.sort_by("priority").to_pylist():
        if row["request_id"] not in sent and row["task"] in tasks:
            wanted[row["key"]].append(row)
    rows = by_key(samples, wanted)
    return [
        Question(
            sample=rows[key],
            requests={row["task"]: row["request_id"] for row in reversed(asked)},
            priority=min(row["priority"] for row in asked),
            runs={row["task"]: row["run"] for row in asked},
        )
        for key, asked in wanted.items()
        if key in rows
    ]


def gold_questions(
    asked: Sequence[Question], known: Mapping[str, Collection[str]], samples: pa.Table, tasks: Mapping[str, Task], *,
    share: float,
) -> list[Question]:  # fmt: skip
    """As many questions of which the answer is known as make up `share` of a queue with `asked`, spread over it.

    `known` holds the keys of samples with a known label, by task. The same queue gets the same ones.
    """
    forms: dict[tuple[str, ...], list[Question]] = defaultdict(list)
    for question in asked:
        forms[question.tasks].append(question)
    chosen: list[tuple[str, Question, tuple[str, ...]]] = []
    for names, part in forms.items():
        if not all(tasks[name].kind in GOLD_TASKS for name in names):
            continue
        fit = set.intersection(*(set(known.get(name, ())) for name in names)) - {q.sample["key"] for q in part}
        count = min(round(len(part) * share / (1 - share)), len(fit))
        keys = sorted(fit, key=lambda key: hashlib.sha256(key.encode()).digest())[:count]
        chosen += [(key, part[place * len(part) // count], names) for place, key in enumerate(keys)]
    rows = by_key(samples, {key for key, _, _ in chosen})
    return [
        Question(
            sample=rows[key], requests={}, gold=names, priority=beside.priority,
            runs=dict.fromkeys(names, next(iter(beside.runs.values()), "")),
        )
        for key, beside, names in chosen
    ]  # fmt: skip


def to_import(
    question: Question, form: Form, workspace: str, *, url_for: UrlFor, until: float,
    said: Mapping[tuple[str, str, str], Any],
) -> tuple[Json, int]:  # fmt: skip
    """An item as the server imports it, and how many suggestions it had to leave out.

    The URL of its image ends at `until` (seconds since 1970; 0: never). `said` holds what runs say, by (run, task,
    key). What `read_answer` would not take back is not suggested.
    """
    sample = question.sample
    size, results, unfit = (int(sample["width"]), int(sample["height"])), [], 0
    for task in form.tasks:
        value = said.get((question.runs.get(task.name, ""), task.name, sample["key"]))
        if value is not None:
            try:
                results += suggest(task, value, size)
            except BadInput:
                unfit += 1
    score = min(question.priority, LAST) / LAST
    item = {
        "data": {IMAGE: url_for(sample), KEY: question.key(workspace)},
        "meta": meta(sample["key"], question.requests, question.gold, until),
        "predictions": [{"model_version": VERSION, "score": score, "result": results}],
    }
    return item, unfit


def meta(sample: str, requests: Mapping[str, int], gold: Sequence[str], until: float) -> Json:
    """What an item says of itself to us, and to nobody who answers it."""
    return {"amber": {"sample": sample, "requests": dict(requests), "gold": list(gold), "until": until}}


def by_key(samples: pa.Table, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The rows of these samples."""
    wanted = samples.filter(pc.is_in(samples["key"], value_set=pa.array(sorted(keys), pa.string())))
    return {row["key"]: row for row in wanted.to_pylist()}
