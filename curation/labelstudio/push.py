"""Push: open label requests become items, each once, whatever was killed or lost on the way.

The server accepts the same import twice without an error, and completes an import whose sender has given up. So push
reads the present items, sends the missing ones, and reads again; it deletes duplicates that nobody has answered.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.read_back import read_parquet
from curation.files.retries import Backoff
from curation.labelstudio.client import Json, LabelStudioClient, Lost
from curation.labelstudio.items import Question, UrlFor, by_key, gold_questions, meta, questions, to_import
from curation.labelstudio.label_config import IMAGE, KEY, LabelConfig
from curation.labelstudio.session import Session, open_session

__all__ = ["Asking", "PushResult", "push"]

Progress = Callable[[str, int, int], None]
Predicted = dict[tuple[str, str, str], Any]
"""Predicted values by (run, task, sample key)."""

CHUNK: Final = 500
"""Items per import: about a second, during which the server answers nobody else."""

TRIES: Final = 5
RESEND: Final = Backoff(first=0.5)


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How to ask people.

    Attributes:
        tasks: tasks to request labels for (default: all).
        overlap: people per item, for `overlap_share` of the items; at least 1.
        overlap_share: part of the items, in (0, 1].
        gold: part of a queue that is gold questions, in [0, 0.5].
        notes: instructions by task, in addition to the task's description.
        suggest: pre-fill the prediction of the run that a request was mined with.
    """

    tasks: tuple[str, ...] = ()
    overlap: int = 1
    overlap_share: float = 1.0
    gold: float = 0.0
    notes: Mapping[str, str] = field(default_factory=dict)
    suggest: bool = True

    def __post_init__(self) -> None:
        if self.overlap < 1:
            raise BadInput(f"overlap {self.overlap}: at least 1 person is asked; raise it")
        if not 0 < self.overlap_share <= 1:
            raise BadInput(f"overlap share {self.overlap_share}: must be above 0 and at most 1; correct it")
        if not 0 <= self.gold <= 0.5:
            raise BadInput(f"gold {self.gold}: must lie in [0, 0.5]; correct it")


@dataclass(frozen=True, kw_only=True)
class PushResult:
    """Counts of a push.

    `requests` sent as `items` (and `gold` questions) to these `projects`; items with a `renewed` URL; `doubled` items
    deleted; predictions `left_out` because they do not fit their task.
    """

    requests: int
    items: int
    gold: int
    renewed: int
    doubled: int
    left_out: int
    projects: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Queue:
    """The questions to send, the definitions of tasks, and the predictions for these questions."""

    asked: list[Question]
    gold: list[Question]
    tasks: dict[str, Task]
    predicted: Predicted

    def by_tasks(self) -> dict[tuple[str, ...], list[Question]]:
        """The questions of each page: those with the same tasks."""
        pages: dict[tuple[str, ...], list[Question]] = defaultdict(list)
        for question in [*self.asked, *self.gold]:
            pages[question.tasks].append(question)
        return pages


def push(
    catalog: Catalog, server: LabelStudioClient, asking: Asking, *, url_for: UrlFor, lasting: float = 0,
    progress: Progress | None = None,
) -> PushResult:  # fmt: skip
    """Send every open label request that is not on the server yet.

    The URLs that `url_for` gives are valid for `lasting` seconds (0: for ever). An unfinished item gets a new URL when
    its own has less than half of that left.

    BadInput when one of our labelling configs was changed on the server; Failed when the server cannot be reached: run
    the push again.
    """
    tell = progress or (lambda stage, done, total: None)
    until = time.time() + lasting if lasting else 0
    with open_session(catalog, server) as session:
        session.refresh()
        session.forget(catalog)
        renewed = _renew(session, catalog, url_for, until)
        with catalog.read() as now:
            queue = _queue(now, catalog, session, asking)
        left_out, done, projects = 0, 0, []
        total = len(queue.asked) + len(queue.gold)
        for names, page_questions in queue.by_tasks().items():
            page = LabelConfig(tasks=tuple(queue.tasks[name] for name in names), notes=asking.notes)
            project = session.project(page, _overlap(asking))
            made = [
                to_import(
                    question, page, session.workspace, url_for=url_for, until=until, predicted=queue.predicted
                ) for question in page_questions
            ]  # fmt: skip
            left_out += sum(unfit for _, unfit in made)
            _send(session, project, [item for item, _ in made], partial(_tell, tell, done, total))
            done += len(page_questions)
            projects.append(f"{server.url}/projects/{project['id']}")
        doubled = _remove_duplicates(session)
    return PushResult(
        requests=sum(len(question.requests) for question in queue.asked), items=len(queue.asked),
        gold=len(queue.gold), renewed=renewed, doubled=doubled, left_out=left_out, projects=tuple(projects),
    )  # fmt: skip


def _tell(tell: Progress, before: int, total: int, sent: int) -> None:
    tell("push", before + sent, total)


def _overlap(asking: Asking) -> Json:
    """The overlap as settings of a project."""
    share = round(100 * asking.overlap_share)
    return {"maximum_annotations": asking.overlap, "overlap_cohort_percentage": share}


def _queue(now: Snapshot, catalog: Catalog, session: Session, asking: Asking) -> _Queue:
    tasks, samples = now.tasks(), now.samples()
    for name in asking.tasks:
        now.task(name)
    sent = {request for item in session.cache.items() for request in item.requests.values()}
    asked = questions(now.requests("open"), samples, sent=sent, tasks=asking.tasks or tuple(tasks))
    gold: list[Question] = []
    if asking.gold and asked:
        used = {name for question in asked for name in question.tasks}
        present = {item.key for item in session.cache.items()}
        gold = gold_questions(asked, _known(now, samples, used), samples, tasks, share=asking.gold)
        gold = [question for question in gold if question.key(session.workspace) not in present]
    predicted = _predicted(now, catalog, [*asked, *gold]) if asking.suggest else {}
    return _Queue(asked=asked, gold=gold, tasks=tasks, predicted=predicted)


def _known(now: Snapshot, samples: pa.Table, tasks: Collection[str]) -> dict[str, list[str]]:
    """Keys of training samples with a known label that is not a model's, by task."""
    trained = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(now.training_ids())))
    found = {}
    for name in tasks:
        labels = now.labels(name)
        known = labels.filter(pc.and_(pc.equal(labels["state"], 1), pc.not_equal(labels["source"], "model")))
        inside = pc.is_in(trained["sample_id"], value_set=known["sample_id"].combine_chunks())
        found[name] = trained.filter(inside)["key"].to_pylist()
    return found


def _predicted(now: Snapshot, catalog: Catalog, asked: Sequence[Question]) -> Predicted:
    """The values that the questions' runs predicted for them."""
    runs = {run for question in asked for run in question.runs.values() if run}
    keys = pa.array(sorted({question.sample["key"] for question in asked}), pa.string())
    found: Predicted = {}
    for row in now.runs().to_pylist():
        if row["run"] in runs and (catalog.home / row["predictions"]).is_file():
            table = read_parquet(now.runs.predictions_file(catalog.home, row["run"]), "evaluate the run again")
            for prediction in table.filter(pc.is_in(table["key"], value_set=keys)).to_pylist():
                classes = now.task(prediction["task"]).classes
                code, number = prediction.get("code"), prediction.get("number")
                value = number if code is None else classes[code] if code < len(classes) else str(code)
                found[row["run"], prediction["task"], prediction["key"]] = value
    return found


def _send(session: Session, project: Json, items: Sequence[Json], tell: Callable[[int], None]) -> None:
    """Import the missing ones of `items`, and repeat until all are present."""
    for turn in range(TRIES):
        present = {item.key for item in session.cache.items() if item.project == int(project["id"])}
        missing = [item for item in items if item["data"][KEY] not in present]
        try:
            for first in range(0, len(missing), CHUNK):
                session.server.add_items(int(project["id"]), missing[first : first + CHUNK])
                tell(len(items) - len(missing) + min(first + CHUNK, len(missing)))
        except Lost:
            if turn == TRIES - 1:
                raise
            time.sleep(RESEND.wait(turn + 1))
        else:
            if not missing:
                return
        session.refresh()


def _renew(session: Session, catalog: Catalog, url_for: UrlFor, until: float) -> int:
    """Give a new URL to each unfinished item whose own has less than half as long left as a new one; returns how
    many."""
    half = (time.time() + until) / 2
    old = [item for item in session.cache.items() if len(item.people) < item.overlap and 0 < item.until < half]
    if not old:
        return 0
    with catalog.read() as now:
        rows = by_key(now.samples(), {item.sample for item in old})
    old = [item for item in old if item.sample in rows]
    for item in old:
        data = {IMAGE: url_for(rows[item.sample]), KEY: item.key}
        fields = {"data": data, "meta": meta(item.sample, item.requests, item.gold, until)}
        session.server.change_item(item.item, fields)
    return len(old)


def _remove_duplicates(session: Session) -> int:
    """Delete items that exist twice and that nobody has answered; returns how many."""
    kept: dict[tuple[int, str], int] = {}
    surplus = []
    for item in sorted(session.cache.items(), key=lambda item: (not item.annotations, item.item)):
        if (item.project, item.key) not in kept:
            kept[item.project, item.key] = item.item
        elif not item.annotations:
            surplus.append(item)
    for item in surplus:
        session.server.remove_item(item.item)
        session.cache.drop(item)
    return len(surplus)
