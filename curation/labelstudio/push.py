"""Push: open label requests become items, each once, whatever was killed or lost on the way.

The server takes the same import twice without a word, and commits one whose sender has given up. So what lies there is
read first, the difference is sent, and what lies there is read again; an item that stands twice is deleted as long as
nobody has answered it.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.retries import Backoff
from curation.labelstudio.client import Json, LabelStudioClient, Lost
from curation.labelstudio.items import Question, UrlFor, by_key, gold_questions, meta, questions, to_import
from curation.labelstudio.label_config import IMAGE, KEY, Form
from curation.labelstudio.session import Session, open_session

__all__ = ["Asking", "Pushed", "push"]

Progress = Callable[[str, int, int], None]

CHUNK: Final = 500
"""Items of one import: about a second, in which the server answers nobody else."""

TRIES: Final = 5
RESEND: Final = Backoff(first=0.5)


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How people are asked.

    `tasks` are asked for (default: all). Of `overlap_share` of the items `overlap` people are asked each. `gold` is the
    part of a queue of which the answer is known. `notes` tell annotators more of a task than its description.
    `suggest` shows what the run says that a request was mined with.
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
class Pushed:
    """What a push did: `requests` asked for by `items` (and `gold` ones), in these `projects`; items that it gave a
    new URL (`renewed`), `doubled` ones that it deleted, and suggestions that it left out because their task does not
    take them."""

    requests: int
    items: int
    gold: int
    renewed: int
    doubled: int
    left_out: int
    projects: tuple[str, ...]


def push(
    catalog: Catalog, server: LabelStudioClient, asking: Asking, *, url_for: UrlFor, lasting: float = 0,
    progress: Progress | None = None,
) -> Pushed:  # fmt: skip
    """Put every open label request that is not on the server before people.

    The URLs that `url_for` gives hold for so many seconds as `lasting` (0: for ever). Items that people are not done
    with get a new one when theirs has less than half as long to go.

    BadInput when a labelling config of ours was changed there; Failed when the server cannot be reached: then the same
    again goes on where it was.
    """
    tell = progress or (lambda stage, done, total: None)
    until = time.time() + lasting if lasting else 0
    with open_session(catalog, server) as desk:
        desk.refresh()
        desk.forget(catalog)
        renewed = _renew(desk, catalog, url_for, until)
        with catalog.read() as now:
            asked, gold, tasks, said = _wanted(now, catalog, desk, asking)
        forms: dict[tuple[str, ...], list[Question]] = defaultdict(list)
        for question in [*asked, *gold]:
            forms[question.tasks].append(question)
        left_out, done, urls = 0, 0, []
        for names, part in forms.items():
            form = Form(tasks=tuple(tasks[name] for name in names), notes=asking.notes)
            share = round(100 * asking.overlap_share)
            project = desk.project(form, {"maximum_annotations": asking.overlap, "overlap_cohort_percentage": share})
            made = [
                to_import(question, form, desk.workspace, url_for=url_for, until=until, said=said) for question in part
            ]
            left_out += sum(unfit for _, unfit in made)
            _send(desk, project, [item for item, _ in made], partial(_tell, tell, done, len(asked) + len(gold)))
            done += len(part)
            urls.append(f"{server.url}/projects/{project['id']}")
        doubled = _undouble(desk)
    return Pushed(
        requests=sum(len(question.requests) for question in asked), items=len(asked), gold=len(gold), renewed=renewed,
        doubled=doubled, left_out=left_out, projects=tuple(urls),
    )  # fmt: skip


def _tell(tell: Progress, before: int, total: int, sent: int) -> None:
    tell("push", before + sent, total)


def _wanted(
    now: Snapshot, catalog: Catalog, desk: Session, asking: Asking
) -> tuple[list[Question], list[Question], dict[str, Task], dict[tuple[str, str, str], Any]]:
    tasks, samples = now.tasks(), now.samples()
    for name in asking.tasks:
        now.task(name)
    sent = {request for item in desk.mirror.everything() if not item.gone for request in item.requests.values()}
    asked = questions(now.requests("open"), samples, sent=sent, tasks=asking.tasks or tuple(tasks))
    gold: list[Question] = []
    if asking.gold and asked:
        used = {name for question in asked for name in question.tasks}
        there = {item.key for item in desk.mirror.items()}
        gold = gold_questions(asked, _known(now, samples, used), samples, tasks, share=asking.gold)
        gold = [question for question in gold if question.key(desk.workspace) not in there]
    return asked, gold, tasks, _said(now, catalog, [*asked, *gold]) if asking.suggest else {}


def _known(now: Snapshot, samples: pa.Table, tasks: Collection[str]) -> dict[str, list[str]]:
    """Keys of training samples with a known label that no model gave, by task."""
    trained = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(now.training_ids())))
    found = {}
    for name in tasks:
        labels = now.labels(name)
        sure = labels.filter(pc.and_(pc.equal(labels["state"], 1), pc.not_equal(labels["source"], "model")))
        inside = pc.is_in(trained["sample_id"], value_set=sure["sample_id"].combine_chunks())
        found[name] = trained.filter(inside)["key"].to_pylist()
    return found


def _said(now: Snapshot, catalog: Catalog, asked: Sequence[Question]) -> dict[tuple[str, str, str], Any]:
    """What runs say of the samples in question, by (run, task, key)."""
    wanted = {run for question in asked for run in question.runs.values() if run}
    keys = pa.array(sorted({question.sample["key"] for question in asked}), pa.string())
    found: dict[tuple[str, str, str], Any] = {}
    for row in now.runs().to_pylist():
        path = catalog.home / row["predictions"]
        if row["run"] in wanted and path.is_file():
            table = pq.read_table(path)
            for said in table.filter(pc.is_in(table["key"], value_set=keys)).to_pylist():
                classes = now.task(said["task"]).classes
                code, number = said.get("code"), said.get("number")
                value = number if code is None else classes[code] if code < len(classes) else str(code)
                found[row["run"], said["task"], said["key"]] = value
    return found


def _send(desk: Session, project: Json, items: Sequence[Json], tell: Callable[[int], None]) -> None:
    """Import those of `items` that are not there, and see that they are."""
    for turn in range(TRIES):
        there = {item.key for item in desk.mirror.items() if item.project == int(project["id"])}
        missing = [item for item in items if item["data"]["amber"] not in there]
        try:
            for first in range(0, len(missing), CHUNK):
                desk.server.add_items(int(project["id"]), missing[first : first + CHUNK])
                tell(len(items) - len(missing) + min(first + CHUNK, len(missing)))
        except Lost:
            if turn == TRIES - 1:
                raise
            time.sleep(RESEND.wait(turn + 1))
        else:
            if not missing:
                return
        desk.refresh()


def _renew(desk: Session, catalog: Catalog, url_for: UrlFor, until: float) -> int:
    """Give open items whose URL has less than half as long to go as new ones have a new URL; returns how many."""
    half = (time.time() + until) / 2
    old = [item for item in desk.mirror.items() if len(item.people) < item.overlap and 0 < item.until < half]
    if not old:
        return 0
    with catalog.read() as now:
        rows = by_key(now.samples(), {item.sample for item in old})
    old = [item for item in old if item.sample in rows]
    for item in old:
        data = {IMAGE: url_for(rows[item.sample]), KEY: item.key}
        desk.server.change_item(item.item, {"data": data, "meta": meta(item.sample, item.requests, item.gold, until)})
    return len(old)


def _undouble(desk: Session) -> int:
    """Delete items that stand twice and that nobody has answered; returns how many."""
    kept: dict[tuple[int, str], int] = {}
    surplus = []
    for item in sorted(desk.mirror.items(), key=lambda item: (not item.annotations, item.item)):
        if (item.project, item.key) not in kept:
            kept[item.project, item.key] = item.item
        elif not item.annotations:
            surplus.append(item)
    for item in surplus:
        desk.server.remove_item(item.item)
        desk.mirror.drop(item)
    return len(surplus)
