"""Push: open label requests become items, each once, whatever was killed or lost on the way.

The server accepts the same import twice without an error, and completes an import whose sender has given up. So push
reads the present items, sends the missing ones, and reads again; it deletes duplicates that nobody has answered.

An item has one text of instructions, that of its project. Where a task gets another text, items that nobody has
answered are deleted and sent again to a project with that text; the others end under the one that they began with.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.catalog import Catalog
from curation.catalog.people import NO_INSTRUCTIONS, Instructions
from curation.catalog.schema import KNOWN, UNSURE
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.progress import StageProgress
from curation.files.read_back import read_parquet
from curation.files.retries import Backoff
from curation.labelstudio.assigning import Assigner
from curation.labelstudio.client import Json, LabelStudioClient, Lost
from curation.labelstudio.item_upkeep import (
    add_person_views,
    end_settled,
    remove_duplicates,
    remove_outdated,
    update_items,
)
from curation.labelstudio.items import (
    Prediction,
    Question,
    gold_questions,
    predicted_value,
    questions,
    to_import,
)
from curation.labelstudio.label_config import KEY, LabelConfig
from curation.labelstudio.session import Session, open_session
from curation.labelstudio.shown_images import ShownImages, UrlFor
from curation.labelstudio.validation import PageValidator

__all__ = ["Asking", "PushResult", "push"]

Predicted = dict[tuple[str, str, str], Prediction]
"""Predictions by (run, task, sample key)."""

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
        model_view: show the prediction of the run that a request was mined with, as text beside the question. It is
            never shown for a sample that has a label of the task already: such a request suspects that label.
        prefill: also fill that prediction in as the answer; needs `model_view`. It biases answers towards the model.
    """

    tasks: tuple[str, ...] = ()
    overlap: int = 1
    overlap_share: float = 1.0
    gold: float = 0.0
    notes: Mapping[str, str] = field(default_factory=dict)
    model_view: bool = True
    prefill: bool = False

    def __post_init__(self) -> None:
        if self.overlap < 1:
            raise BadInput(f"overlap {self.overlap}: at least 1 person is asked; raise it")
        if not 0 < self.overlap_share <= 1:
            raise BadInput(f"overlap share {self.overlap_share}: must be above 0 and at most 1; correct it")
        if not 0 <= self.gold <= 0.5:
            raise BadInput(f"gold {self.gold}: must lie in [0, 0.5]; correct it")
        if self.prefill and not self.model_view:
            raise BadInput("prefill: needs the model's view; show it, or do not fill answers in")


@dataclass(frozen=True, kw_only=True)
class PushResult:
    """Counts of a push.

    `requests` sent as `items` (and `gold` questions) to these `projects`; items with a `renewed` URL; items
    `reassigned` to other people; items `outdated` by other instructions and sent again; questions `held` back because
    nobody has room for them; `doubled` items deleted; predictions `left_out` because they do not fit their task;
    `undescribed` tasks, which annotators know only by name because they have neither a description nor instructions.
    """

    requests: int
    items: int
    gold: int
    renewed: int
    doubled: int
    left_out: int
    projects: tuple[str, ...]
    reassigned: int = 0
    outdated: int = 0
    held: int = 0
    undescribed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Queue:
    """The questions to send, how many are held back, the definitions and instructions of tasks, and the predictions for
    these questions."""

    asked: list[Question]
    gold: list[Question]
    held: int
    tasks: dict[str, Task]
    instructions: dict[str, Instructions]
    predicted: Predicted

    @property
    def versions(self) -> dict[str, int]:
        """The version of each task's instructions."""
        return {task: part.version for task, part in self.instructions.items()}

    def pages(self, notes: Mapping[str, str]) -> Iterator[tuple[LabelConfig, list[Question]]]:
        """Each page with its questions, which all have the same tasks; `notes` follow the instructions."""
        texts = {
            task: "\n\n".join(filter(None, [self._text(task), notes.get(task, "")]))
            for task in {*self.instructions, *notes}
        }
        same: dict[tuple[str, ...], list[Question]] = defaultdict(list)
        for question in [*self.asked, *self.gold]:
            same[question.tasks].append(question)
        for names, part in same.items():
            yield LabelConfig(tasks=tuple(self.tasks[name] for name in names), notes=texts), part

    def _text(self, task: str) -> str:
        return self.instructions.get(task, NO_INSTRUCTIONS).text


def push(
    catalog: Catalog, server: LabelStudioClient, asking: Asking, *, url_for: UrlFor, lasting: float = 0,
    progress: StageProgress | None = None,
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
        with catalog.read() as now:
            instructions, assignments = now.people.instructions(), now.people.assignments()
            tasks, open_ = now.tasks(), set(now.requests("open")["request_id"].to_pylist())
        outdated = remove_outdated(session, instructions, asking.tasks or tuple(tasks))
        end_settled(session, open_)
        assigner = Assigner(assignments, session.cache.items(), server.people() if assignments else {})
        renewed, reassigned = update_items(session, catalog, assigner, url_for, until)
        with catalog.read() as now:
            queue, shown = _queue(now, catalog, session, asking, assigner), ShownImages(now, url_for)
        left_out, done, projects, undescribed = 0, 0, [], set[str]()
        total = len(queue.asked) + len(queue.gold)
        for page, part in queue.pages(asking.notes):
            project = session.project(page, _overlap(asking))
            items, unfit = _imports(session, page, part, queue, shown, until, prefill=asking.prefill)
            left_out += unfit
            undescribed.update(page.undescribed)
            _send(session, project, items, partial(_tell, tell, done, total))
            done += len(part)
            projects.append(f"{server.url}/projects/{project['id']}")
        doubled = remove_duplicates(session)
        if assignments and asking.overlap > 1:  # the server has decided which of the new items several people answer
            update_items(session, catalog, assigner, url_for, until)
        add_person_views(session)
    return PushResult(
        requests=sum(len(question.requests) for question in queue.asked), items=len(queue.asked),
        gold=len(queue.gold), renewed=renewed, doubled=doubled, left_out=left_out, projects=tuple(projects),
        undescribed=tuple(sorted(undescribed)), reassigned=reassigned, outdated=outdated, held=queue.held,
    )  # fmt: skip


def _imports(
    session: Session, page: LabelConfig, asked: Sequence[Question], queue: _Queue, shown: ShownImages, until: float,
    *, prefill: bool,
) -> tuple[list[Json], int]:  # fmt: skip
    """The items of a page, and how many predictions were left out of them."""
    errors = PageValidator(page).errors
    made = [
        to_import(
            question, page, session.workspace, shown=shown, until=until, predicted=queue.predicted,
            errors=errors, prefill=prefill, versions=queue.versions,
        ) for question in asked
    ]  # fmt: skip
    return [item for item, _ in made], sum(unfit for _, unfit in made)


def _tell(tell: StageProgress, before: int, total: int, sent: int) -> None:
    tell("push", before + sent, total)


def _overlap(asking: Asking) -> Json:
    """The overlap as settings of a project."""
    share = round(100 * asking.overlap_share)
    return {"maximum_annotations": asking.overlap, "overlap_cohort_percentage": share}


def _queue(now: Snapshot, catalog: Catalog, session: Session, asking: Asking, assigner: Assigner) -> _Queue:
    tasks, samples = now.tasks(), now.samples()
    for name in asking.tasks:
        now.task(name)
    sent = {request for item in session.cache.items() for request in item.requests.values()}
    found = questions(
        now.requests("open"), samples, sent=sent, tasks=asking.tasks or tuple(tasks), people_of=assigner.people
    )
    given = [(question, assigner.choose(question.tasks, 1)) for question in found]
    asked = [replace(question, people=people) for question, people in given if people is not None]
    asked = _without_view_of_labelled(now, asked)
    gold: list[Question] = []
    if asking.gold and asked:
        used = {name for question in asked for name in question.tasks}
        present = {item.key for item in session.cache.items()}
        gold = gold_questions(asked, _known(now, samples, used), samples, tasks, share=asking.gold)
        gold = [
            replace(question, people=assigner.choose(question.tasks, 1, beyond=True) or ())
            for question in gold if question.key(session.workspace) not in present
        ]  # fmt: skip
    predicted = _predicted(now, catalog, [*asked, *gold]) if asking.model_view else {}
    return _Queue(
        asked=asked, gold=gold, held=len(found) - len(asked), tasks=tasks, instructions=now.people.instructions(),
        predicted=predicted,
    )  # fmt: skip


def _without_view_of_labelled(now: Snapshot, asked: Sequence[Question]) -> list[Question]:
    """The questions, without the model's view of the tasks whose sample has a label, known or unsure.

    Such a request suspects a wrong label, often because the model contradicts it: its view would prompt the answer.
    """
    labelled = set()
    for name in {name for question in asked for name in question.tasks}:
        labels = now.labels(name)
        labels = labels.filter(pc.is_in(labels["state"], value_set=pa.array([KNOWN, UNSURE], labels["state"].type)))
        labelled |= {(name, sample) for sample in labels["sample_id"].to_pylist()}
    return [
        replace(
            question,
            runs={
                task: "" if (task, question.sample["sample_id"]) in labelled else run
                for task, run in question.runs.items()
            },
        )
        for question in asked
    ]


def _known(now: Snapshot, samples: pa.Table, tasks: Collection[str]) -> dict[str, list[str]]:
    """Keys of training samples with a known label that is not a model's, by task."""
    trained = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(now.training_ids())))
    found = {}
    for name in tasks:
        labels = now.labels(name)
        known = labels.filter(pc.and_(pc.equal(labels["state"], 1), pc.not_equal(labels["source"], "model")))
        if now.task(name).kind == "multilabel":  # an answer about all classes cannot be graded by some
            known = known.filter(pc.is_null(known["looked"]))
        inside = pc.is_in(trained["sample_id"], value_set=known["sample_id"].combine_chunks())
        found[name] = trained.filter(inside)["key"].to_pylist()
    return found


def _predicted(now: Snapshot, catalog: Catalog, asked: Sequence[Question]) -> Predicted:
    """The predictions of the questions' runs."""
    runs = {run for question in asked for run in question.runs.values() if run}
    keys = pa.array(sorted({question.sample["key"] for question in asked}), pa.string())
    found: Predicted = {}
    for row in now.runs().to_pylist():
        if row["run"] in runs and (catalog.home / row["predictions"]).is_file():
            table = read_parquet(now.runs.predictions_file(catalog.home, row["run"]), "evaluate the run again")
            for prediction in table.filter(pc.is_in(table["key"], value_set=keys)).to_pylist():
                cell = row["run"], prediction["task"], prediction["key"]
                value = predicted_value(now.task(prediction["task"]), prediction)
                found[cell] = Prediction(value=value, confidence=prediction.get("confidence"))
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
