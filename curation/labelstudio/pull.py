"""Pull: people's answers become labels, each with its annotator, its time and its item.

An answer is identified by its annotation's id on the server and the time of its last change. Unchanged answers are
skipped; the others go into the catalog in one commit, labels and provenance together. So a repeated pull does nothing,
and a killed one is run again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.catalog import Catalog
from curation.catalog.commit import PendingCommit
from curation.catalog.event_tables import GIVEN_LABELS
from curation.catalog.snapshot import Snapshot
from curation.labelstudio.annotations import Answer, decode_items, gold_truths
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.item_cache import Item
from curation.labelstudio.resolution import AUTHOR, THIRD, close_requests, resolve
from curation.labelstudio.session import Session, open_session

__all__ = ["ANSWERS", "PullResult", "pull"]

Id = tuple[int, int, str]
Row = Mapping[str, Any]
Cell = tuple[str, str, str]
"""Sample key, task, annotator."""

QUARANTINE: Final = AUTHOR
"""The data set under which unfit answers are quarantined."""

LABEL: Final = ("known", "unsure", "inapplicable")
"""Outcomes that are a label."""

ANSWERS: Final = pa.schema(
    [
        ("sample_id", pa.int64()), ("task_id", pa.int32()), ("annotator", pa.string()), ("server", pa.string()),
        ("project", pa.int64()), ("item", pa.int64()), ("annotation", pa.int64()), ("outcome", pa.string()),
        ("seconds", pa.float64()), ("answered_at", pa.timestamp("us")),
    ]
)  # fmt: skip
"""The columns of `PendingCommit.add_answers`."""


@dataclass(frozen=True, kw_only=True)
class PullResult:
    """Counts of a pull.

    Answers: new or changed `labels`, `retracted` labels, `skipped`, `empty` and `unfit` answers, answers to `gold`
    questions; `by_others`: answers by people whom the item was not given to, which count like any. Requests: `closed`
    ones, `disputed` ones sent to a third person, and those still `waiting` for people.
    `forgotten` are keys of forgotten samples whose items were deleted on the server, with their answers.
    """

    labels: int = 0
    retracted: int = 0
    skipped: int = 0
    empty: int = 0
    gold: int = 0
    by_others: int = 0
    unfit: int = 0
    closed: int = 0
    disputed: int = 0
    waiting: int = 0
    forgotten: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """The answers on the changed samples: `current` on the server, and what differs from the catalog.

    `fresh` are new or changed, `deleted` are rows of the catalog whose annotation was deleted. `keys` has the sample
    keys by id.
    """

    server: str
    keys: Mapping[int, str]
    current: Sequence[Answer] = ()
    fresh: Sequence[Answer] = ()
    deleted: Sequence[Row] = ()


def pull(
    catalog: Catalog, server: LabelStudioClient, *, batch: str = "", close: bool = True, third: timedelta = THIRD
) -> PullResult:
    """Commit the answers that changed on the server since the last pull, and close the finished requests.

    With a `batch` id, requests are closed only when all of them are finished, in one commit with that id; with `close`
    false, none is closed. Where two people disagree, the request waits for a third person for at most `third`; then the
    label stays unsure. Answers that do not fit their task are quarantined, each with its reason. Failed when the server
    cannot be reached: run the pull again.
    """
    with open_session(catalog, server) as session:
        session.refresh()
        forgotten = session.forget(catalog)
        counts = _commit_answers(catalog, session)
        with catalog.read() as now:
            found = resolve(now, session.cache, clock=server.clock(), third=third)
        for item, overlap in found.again:
            session.server.change_item(item.item, {"overlap": overlap, "is_labeled": False})
        closing = close and (not batch or not found.waiting)
        if closing:
            close_requests(catalog, found, batch=batch or None)
        closed = len(found.answered | found.skipped) if closing else 0
        return replace(counts, closed=closed, disputed=len(found.again), waiting=found.waiting, forgotten=forgotten)


def _commit_answers(catalog: Catalog, session: Session) -> PullResult:
    changed = [item for item in session.cache.items() if item.taken != item.state]
    if not changed:
        return PullResult()
    answers, counts = _compare(catalog, session, changed), PullResult()
    if answers.fresh or answers.deleted:
        retracted = f", {len(answers.deleted)} taken back" if answers.deleted else ""
        message = f"{len(answers.fresh)} answers{retracted} at {answers.server}"
        with catalog.commit(author=AUTHOR, message=message) as change:
            counts = _write(change, answers)
    session.cache.mark_taken(changed)
    return counts


def _compare(catalog: Catalog, session: Session, changed: Sequence[Item]) -> _Answers:
    """Compare the answers on the samples of the `changed` items with the catalog.

    It reads all items of these samples, deleted ones too: the newest answer of each person counts over all of them.
    """
    items = session.cache.of_samples({item.sample for item in changed})
    with catalog.read() as now:
        rows = _samples(now, items)
        keys = {row["sample_id"]: row["key"] for row in rows}
        sizes = {row["key"]: (int(row["width"]), int(row["height"])) for row in rows}
        known = gold_truths(now, items, keys)
        current = decode_items(items, now.tasks(), sizes, session.server.people(), known)
        seen = _seen(now, session.server.name, keys)
    fresh = [answer for answer in current if _version(seen.get(answer.id)) != (answer.outcome, answer.at)]
    return _Answers(
        server=session.server.name, keys=keys, current=current, fresh=fresh, deleted=_deleted(seen, current, items)
    )


def _write(change: PendingCommit, answers: _Answers) -> PullResult:
    """Add labels, retractions, quarantined answers and provenance to a commit."""
    labels, retracted = _label_rows(change.now, answers)
    change.add_labels(pa.Table.from_pylist([*labels, *retracted], GIVEN_LABELS), source="human", quarantine=QUARANTINE)
    unfit = [answer for answer in answers.fresh if answer.why]
    change.add_quarantine([(answer.origin, answer.why) for answer in unfit], dataset=QUARANTINE)
    change.add_answers(pa.Table.from_pylist(_events(change.now, answers), ANSWERS))
    outcomes = [answer.outcome for answer in answers.fresh]
    return PullResult(
        labels=len(labels), retracted=len(retracted), skipped=outcomes.count("skipped"),
        empty=outcomes.count("empty"), gold=sum(bool(answer.item.gold) for answer in answers.fresh), unfit=len(unfit),
        by_others=len({answer.annotation for answer in answers.fresh if answer.by_other}),
    )  # fmt: skip


def _label_rows(now: Snapshot, answers: _Answers) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The labels to add and those to retract, in the columns of `GIVEN_LABELS`.

    A cell (sample, task, annotator) that changed gets the annotator's newest label; one without any is retracted.
    """
    newest: dict[Cell, Answer] = {}
    for answer in sorted(answers.current, key=lambda answer: (answer.at, answer.annotation)):
        if answer.outcome in LABEL:
            newest[_cell(answer)] = answer
    names = {id_: name for name, id_ in now.task_ids().items()}
    touched = {_cell(answer) for answer in answers.fresh if not answer.item.gold}
    touched |= {(answers.keys[row["sample_id"]], names[row["task_id"]], row["annotator"]) for row in answers.deleted}
    labelled = _labelled(now, {task for _, task, _ in touched}, answers.keys)
    ended = sorted((touched - set(newest)) & labelled)
    return (
        [_label(newest[cell]) for cell in sorted(touched & set(newest))],
        [{"key": key, "task": task, "annotator": who, "state": "retracted"} for key, task, who in ended],
    )


def _events(now: Snapshot, answers: _Answers) -> list[dict[str, Any]]:
    """Provenance rows, in the columns of `ANSWERS`."""
    ids, task_ids = {key: id_ for id_, key in answers.keys.items()}, now.task_ids()
    fresh = [_event(answer, answers.server, ids, task_ids) for answer in answers.fresh]
    return fresh + [{**row, "outcome": "deleted"} for row in answers.deleted]


def _samples(now: Snapshot, items: Sequence[Item]) -> list[dict[str, Any]]:
    samples = now.samples().select(["sample_id", "key", "width", "height"])
    keys = pa.array(sorted({item.sample for item in items}), pa.string())
    return list(samples.filter(pc.is_in(samples["key"], value_set=keys)).to_pylist())


def _seen(now: Snapshot, server: str, keys: Mapping[int, str]) -> dict[Id, Row]:
    """The catalog's answers from this server on the samples in `keys`."""
    names = {id_: name for name, id_ in now.task_ids().items()}
    known = now.requests.answers()
    here = pc.is_in(known["sample_id"], value_set=pa.array(sorted(keys), pa.int64()))
    rows = known.filter(pc.and_(pc.equal(known["server"], server), here)).to_pylist()
    return {(row["project"], row["annotation"], names[row["task_id"]]): row for row in rows}


def _version(row: Row | None) -> tuple[str, datetime] | None:
    """Outcome and time of an answer in the catalog; a changed answer differs in one of them."""
    return None if row is None else (row["outcome"], row["answered_at"])


def _deleted(seen: Mapping[Id, Row], answers: Sequence[Answer], items: Sequence[Item]) -> list[Row]:
    """The catalog's answers whose annotation was deleted. Deleting the whole item keeps its labels."""
    present = {(item.project, item.item) for item in items if not item.gone}
    current = {answer.id for answer in answers}
    return [
        row for id_, row in seen.items()
        if id_ not in current and row["outcome"] != "deleted" and (row["project"], row["item"]) in present
    ]  # fmt: skip


def _labelled(now: Snapshot, tasks: Iterable[str], keys: Mapping[int, str]) -> set[Cell]:
    """The cells of these tasks and samples for which the catalog has a person's label."""
    found = set()
    for name in tasks:
        people = now.labels.by_people(name)
        pairs = zip(people["sample_id"].to_pylist(), people["annotator"].to_pylist(), strict=True)
        found |= {(keys[id_], name, who) for id_, who in pairs if id_ in keys}
    return found


def _cell(answer: Answer) -> Cell:
    return answer.sample, answer.task, answer.annotator


def _label(answer: Answer) -> dict[str, Any]:
    row = {"key": answer.sample, "task": answer.task, "annotator": answer.annotator, "labelled_at": answer.at}
    version = answer.item.instructions.get(answer.task)
    return {**row, **answer.value, "origin": answer.origin, "instructions": version}


def _event(answer: Answer, server: str, ids: Mapping[str, int], task_ids: Mapping[str, int]) -> dict[str, Any]:
    return {
        "sample_id": ids[answer.sample], "task_id": task_ids[answer.task], "annotator": answer.annotator,
        "server": server, "project": answer.item.project, "item": answer.item.item, "annotation": answer.annotation,
        "outcome": answer.outcome, "seconds": answer.seconds, "answered_at": answer.at,
    }  # fmt: skip
