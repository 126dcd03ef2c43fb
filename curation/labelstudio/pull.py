"""Pull: what people answered becomes labels, each with its annotator, its time and its item.

An answer is known by its annotation's id on the server and the moment of its last change. What is known stays; the rest
goes into the catalog in one commit, labels and provenance together. So the same pull again does nothing, and one that
was killed is simply run again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.catalog import Catalog
from curation.catalog.commit import PendingCommit
from curation.catalog.event_tables import LABELS
from curation.catalog.snapshot import Snapshot
from curation.labelstudio.annotation_reading import Answer, read_answers, truths
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.item_cache import Item
from curation.labelstudio.resolution import AUTHOR, THIRD, close_requests, standing
from curation.labelstudio.session import Session, open_session

__all__ = ["ANSWERS", "Pulled", "pull"]

Id = tuple[int, int, str]
Row = Mapping[str, Any]
Cell = tuple[str, str, str]

QUARANTINE: Final = AUTHOR
"""The data set under which unfit answers are put aside."""

LABEL: Final = ("known", "unsure")
"""Outcomes that are a label."""

ANSWERS: Final = pa.schema(
    [
        ("sample_id", pa.int64()), ("task_id", pa.int32()), ("annotator", pa.string()), ("server", pa.string()),
        ("project", pa.int64()), ("item", pa.int64()), ("annotation", pa.int64()), ("outcome", pa.string()),
        ("seconds", pa.float64()), ("answered_at", pa.timestamp("us")),
    ]
)  # fmt: skip
"""What `Change.add_answers` takes."""


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What a pull brought: labels, retracted ones, skips, answers that say nothing, answers to gold questions, and
    unfit ones; requests that it closed, those that a third person is now asked for, and those that wait for people."""

    labels: int = 0
    retracted: int = 0
    skipped: int = 0
    empty: int = 0
    gold: int = 0
    unfit: int = 0
    closed: int = 0
    disputed: int = 0
    waiting: int = 0


def pull(
    catalog: Catalog, server: LabelStudioClient, *, batch: str = "", close: bool = True, third: timedelta = THIRD
) -> Pulled:
    """Take in what changed on the server since the last pull, and close the requests that people are done with.

    With a `batch` they are closed only when people are done with all of them, in that one commit; with `close` false,
    not at all. Where two differ, a third person is waited for as long as `third`; then the label stays unsure. Answers
    that their task does not take are put into quarantine, with a line that says why. Failed when the server cannot be
    reached: then the same again goes on where it was.
    """
    with open_session(catalog, server) as desk:
        desk.refresh()
        desk.forget(catalog)
        pulled = _take(catalog, desk)
        with catalog.read() as now:
            found = standing(now, desk.mirror, clock=server.clock(), third=third)
        for item, overlap in found.again:
            desk.server.change_item(item.item, {"overlap": overlap, "is_labeled": False})
        closing = close and (not batch or not found.waiting)
        if closing:
            close_requests(catalog, found, batch=batch or None)
        closed = len(found.answered | found.skipped) if closing else 0
        return replace(pulled, closed=closed, disputed=len(found.again), waiting=found.waiting)


def _take(catalog: Catalog, desk: Session) -> Pulled:
    """Write what is new of the items that changed; of their samples all items are looked at, gone ones too."""
    changed = [item for item in desk.mirror.items() if item.taken != item.state]
    if not changed:
        return Pulled()
    items = desk.mirror.of_samples({item.sample for item in changed})
    with catalog.read() as now:
        rows = _samples(now, items)
        keys = {row["sample_id"]: row["key"] for row in rows}
        sizes = {row["key"]: (int(row["width"]), int(row["height"])) for row in rows}
        known = truths(now, items, keys)
        answers = read_answers(items, now.tasks(), sizes, desk.server.people(), known)
        seen = _seen(now, desk.server.name, keys)
    fresh = [answer for answer in answers if _stamp(seen.get(answer.id)) != (answer.outcome, answer.at)]
    gone = _deleted(seen, answers, items)
    pulled = Pulled()
    if fresh or gone:
        message = f"{len(fresh)} answers" + (f", {len(gone)} taken back" if gone else "") + f" at {desk.server.name}"
        with catalog.commit(author=AUTHOR, message=message) as change:
            pulled = _write(change, desk.server.name, answers, fresh, gone, keys)
    desk.mirror.take(changed)
    return pulled


def _write(
    change: PendingCommit, server: str, answers: Sequence[Answer], fresh: Sequence[Answer], gone: Sequence[Row],
    keys: Mapping[int, str],
) -> Pulled:  # fmt: skip
    """Labels, retractions, quarantine and provenance of what is new. Of each annotator the newest answer counts."""
    ids, task_ids = {key: id_ for id_, key in keys.items()}, change.now.task_ids()
    newest: dict[Cell, Answer] = {}
    for answer in sorted(answers, key=lambda answer: (answer.at, answer.annotation)):
        if answer.outcome in LABEL:
            newest[answer.sample, answer.task, answer.annotator] = answer
    names = {id_: name for name, id_ in task_ids.items()}
    touched = {(answer.sample, answer.task, answer.annotator) for answer in fresh if not answer.item.gold}
    touched |= {(keys[row["sample_id"]], names[row["task_id"]], row["annotator"]) for row in gone}
    labels = [_label(newest[cell]) for cell in sorted(touched & set(newest))]
    ended = sorted((touched - set(newest)) & _standing(change.now, {task for _, task, _ in touched}, keys))
    retracted = [{"key": key, "task": task, "annotator": who, "state": "retracted"} for key, task, who in ended]
    change.add_labels(pa.Table.from_pylist([*labels, *retracted], LABELS), source="human", quarantine=QUARANTINE)
    unfit = [answer for answer in fresh if answer.why]
    change.add_quarantine([(answer.place, answer.why) for answer in unfit], dataset=QUARANTINE)
    events = [_event(answer, server, ids, task_ids) for answer in fresh]
    events += [{**row, "outcome": "deleted"} for row in gone]
    change.add_answers(pa.Table.from_pylist(events, ANSWERS))
    outcomes = [answer.outcome for answer in fresh]
    return Pulled(
        labels=len(labels), retracted=len(ended), skipped=outcomes.count("skipped"), empty=outcomes.count("empty"),
        gold=sum(bool(answer.item.gold) for answer in fresh), unfit=len(unfit),
    )  # fmt: skip


def _samples(now: Snapshot, items: Sequence[Item]) -> list[dict[str, Any]]:
    samples = now.samples().select(["sample_id", "key", "width", "height"])
    wanted = pa.array(sorted({item.sample for item in items}), pa.string())
    return list(samples.filter(pc.is_in(samples["key"], value_set=wanted)).to_pylist())


def _seen(now: Snapshot, server: str, keys: Mapping[int, str]) -> dict[Id, Row]:
    """The answers from this server that the catalog knows of these samples."""
    names = {id_: name for name, id_ in now.task_ids().items()}
    known = now.requests.answers()
    here = pc.is_in(known["sample_id"], value_set=pa.array(sorted(keys), pa.int64()))
    rows = known.filter(pc.and_(pc.equal(known["server"], server), here)).to_pylist()
    return {(row["project"], row["annotation"], names[row["task_id"]]): row for row in rows}


def _stamp(row: Row | None) -> tuple[str, datetime] | None:
    """What tells a known answer from a changed one."""
    return None if row is None else (row["outcome"], row["answered_at"])


def _deleted(seen: Mapping[Id, Row], answers: Sequence[Answer], items: Sequence[Item]) -> list[Row]:
    """Known answers whose item is there, and whose annotation is not. What a deleted item brought stays."""
    there = {(item.project, item.item) for item in items if not item.gone}
    current = {answer.id for answer in answers}
    return [
        row for id_, row in seen.items()
        if id_ not in current and row["outcome"] != "deleted" and (row["project"], row["item"]) in there
    ]  # fmt: skip


def _standing(now: Snapshot, tasks: Iterable[str], keys: Mapping[int, str]) -> set[Cell]:
    """Of which of these samples people have a label standing: key, task, annotator."""
    found = set()
    for name in tasks:
        said = now.labels.by_annotator(name)
        people = said.filter(pc.and_(pc.equal(said["source"], "human"), pc.not_equal(said["state"], 0)))
        pairs = zip(people["sample_id"].to_pylist(), people["annotator"].to_pylist(), strict=True)
        found |= {(keys[id_], name, who) for id_, who in pairs if id_ in keys}
    return found


def _label(answer: Answer) -> dict[str, Any]:
    row = {"key": answer.sample, "task": answer.task, "annotator": answer.annotator, "labelled_at": answer.at}
    return {**row, **answer.said, "origin": answer.place}


def _event(answer: Answer, server: str, ids: Mapping[str, int], task_ids: Mapping[str, int]) -> dict[str, Any]:
    return {
        "sample_id": ids[answer.sample], "task_id": task_ids[answer.task], "annotator": answer.annotator,
        "server": server, "project": answer.item.project, "item": answer.item.item, "annotation": answer.annotation,
        "outcome": answer.outcome, "seconds": answer.seconds, "answered_at": answer.at,
    }  # fmt: skip
