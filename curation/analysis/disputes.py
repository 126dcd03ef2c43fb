"""Disputes: labels on which people disagree so that none holds; a lead settles them.

A settlement is a label of the lead, whose source overrides those of other people (`catalog.schema.PRECEDENCE`). Their
statements stay, so agreement counts them as before, and reverting the commit opens the dispute again.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Ints
from curation.catalog.commit import PendingCommit
from curation.catalog.event_tables import GIVEN_LABELS
from curation.catalog.label_words import label_words
from curation.catalog.ownership import Identity
from curation.catalog.people import NO_INSTRUCTIONS
from curation.catalog.schema import KNOWN, UNSURE
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput, NotFound
from curation.rows import tabled

__all__ = ["Dispute", "Statement", "disputes", "human_votes", "settle"]

LEAD = "lead"
INAPPLICABLE = "inapplicable"


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What one person says of a sample: `value` in words, when, and under which version of the instructions (None: not
    known)."""

    annotator: str
    value: str
    at: datetime
    instructions: int | None


@dataclass(frozen=True, kw_only=True)
class Dispute:
    """A sample on whose label of a task people disagree. `reason` says why the label was requested last ("": it was
    not); `open` whether another person is asked."""

    task: str
    key: str
    statements: tuple[Statement, ...]
    reason: str
    open: bool


@tabled(Dispute)
def disputes(now: Snapshot, tasks: Sequence[str] = ()) -> list[Dispute]:
    """The disputes about `tasks` (default: all), the oldest last statement first; NotFound for an unknown task.

    >>> disputes(now, ["color"])
    []
    """
    names = [now.task(name).name for name in tasks] or list(now.tasks())
    cells = [(name, sample) for name in names for sample in _disputed(now, name).tolist()]
    if not cells:
        return []
    keys = dict(zip(*now.samples("sample_id", "key").to_pydict().values(), strict=True))
    requests = {(row["task"], row["sample_id"]): row for row in now.requests().to_pylist()}
    statements = {name: _statements(now, now.task(name), cells) for name in {task for task, _ in cells}}
    found = [
        Dispute(
            task=task, key=keys[sample], statements=tuple(statements[task][sample]),
            reason=_reason(requests.get((task, sample))),
            open=requests.get((task, sample), {}).get("state") == "open",
        ) for task, sample in cells
    ]  # fmt: skip
    return sorted(found, key=lambda part: (max(each.at for each in part.statements), part.task, part.key))


def settle(change: PendingCommit, key: str, value: str, *, task: str, annotator: str, by: Identity) -> Dispute:
    """Settle the dispute about a sample: `annotator`, the lead, labels it, and its open requests are answered.

    `value` is a class, "true" or "false", a number, classes separated by commas ("" for none), "inapplicable", or the
    name of a person whose statement holds: the only way for boxes. `task` may be "" where one task is disputed.
    NotFound where nothing is disputed; BadInput where it is settled already, for a value that does not fit, and when
    the task's owner has members and `by` is none of them.
    """
    now = change.now
    found = [part for part in disputes(now, [task] if task else ()) if part.key == key]
    if not found:
        _refuse_settled(now, key, [task] if task else list(now.tasks()))
        about = f" about {task}" if task else ""
        raise NotFound(f"{key}: people do not disagree on it{about}; `amber label disputes` lists what they dispute")
    if len(found) > 1:
        raise BadInput(f"{key}: disputed in {', '.join(part.task for part in found)}; name one with --task")
    (dispute,) = found
    change.people.record_settled(dispute.task, key, by=by)
    label = _label(now, now.task(dispute.task), key, value)
    version = now.people.instructions().get(dispute.task, NO_INSTRUCTIONS).version
    row = {"key": key, "task": dispute.task, "annotator": annotator, **label, "instructions": version}
    change.add_labels(pa.Table.from_pylist([row], GIVEN_LABELS), source=LEAD)
    cell = dispute.task, key
    open_ = [row["request_id"] for row in now.requests("open").to_pylist() if (row["task"], row["key"]) == cell]
    change.close_requests(open_, state="answered")
    return dispute


def _refuse_settled(now: Snapshot, key: str, tasks: Iterable[str]) -> None:
    """BadInput where a lead has labelled a sample; NotFound for an unknown key."""
    sample = now.sample(key)["sample_id"]
    for task in tasks:
        stated = now.labels.by_annotator(task)
        settled = pc.and_(pc.equal(stated["source"], LEAD), pc.equal(stated["sample_id"], sample))
        for row in stated.filter(settled).to_pylist():
            raise BadInput(
                f"{key}: {row['annotator']} has settled {task} in commit {row['commit_id']}; "
                f"`amber revert {row['commit_id']}` opens the dispute again"
            )


def _disputed(now: Snapshot, task: str) -> Ints:
    """The ids of the samples on which people disagree: several have labelled them, not all unsure, and none holds."""
    votes = now.labels.by_people(task).select(["sample_id", "state"])
    labels = now.labels(task, "sample_id", "state")
    unsure = labels.filter(pc.equal(labels["state"], UNSURE))["sample_id"].to_numpy()
    samples, first, count = np.unique(votes["sample_id"].to_numpy(), return_index=True, return_counts=True)
    known = votes["state"].to_numpy() == KNOWN
    some_known = np.logical_or.reduceat(known, first) if len(first) else known
    found: Ints = samples[(count > 1) & some_known & np.isin(samples, unsure)]
    return found


def human_votes(now: Snapshot, tasks: Iterable[str]) -> dict[tuple[str, int], tuple[int, bool]]:
    """By (task, sample id): how many people have labelled it, and whether they disagree so that no label holds."""
    found: dict[tuple[str, int], tuple[int, bool]] = {}
    for task in tasks:
        votes, labels = now.labels.by_people(task), now.labels(task)
        unsure = set(labels.filter(pc.equal(labels["state"], UNSURE))["sample_id"].to_pylist())
        states: dict[int, list[int]] = defaultdict(list)
        for sample, state in zip(votes["sample_id"].to_pylist(), votes["state"].to_pylist(), strict=True):
            states[sample].append(state)
        for sample, each in states.items():
            found[task, sample] = (len(each), len(each) > 1 and sample in unsure and KNOWN in each)
    return found


def _statements(now: Snapshot, task: Task, cells: Iterable[tuple[str, int]]) -> Mapping[int, list[Statement]]:
    """People's statements about the disputed samples of a task."""
    samples = [sample for name, sample in cells if name == task.name]
    found: dict[int, list[Statement]] = defaultdict(list)
    for row in _of_people(now, task, samples):
        found[row["sample_id"]].append(
            Statement(
                annotator=row["annotator"], value=label_words(task, row), at=row["labelled_at"],
                instructions=row["instructions"],
            )
        )  # fmt: skip
    return found


def _of_people(now: Snapshot, task: Task, samples: Sequence[int]) -> list[dict[str, Any]]:
    statements = now.labels.by_people(task.name)
    inside = pc.is_in(statements["sample_id"], value_set=pa.array(samples, pa.int64()))
    return list(statements.filter(inside).to_pylist())


def _reason(request: Mapping[str, Any] | None) -> str:
    return f"{request['arm']}: {request['reason']}".removesuffix(": ") if request else ""


def _label(now: Snapshot, task: Task, key: str, value: str) -> dict[str, Any]:
    """The columns of `LABELS` that state a value in words, or what the person of that name states."""
    statements = {row["annotator"]: row for row in _of_people(now, task, [now.sample(key)["sample_id"]])}
    if value in statements and value not in task.classes:
        return _restated(task, statements[value])
    if value == INAPPLICABLE and value not in task.classes:
        return {"state": INAPPLICABLE}
    match task.kind:
        case "detection":
            people = ", ".join(sorted(statements))
            raise BadInput(f"{value!r}: boxes are settled by naming the person whose boxes hold ({people}); name one")
        case "multilabel":
            return {"state": "known", "names": [name.strip() for name in value.split(",") if name.strip()]}
        case "regression":
            try:
                return {"state": "known", "number": float(value)}
            except ValueError:
                raise BadInput(f"{value!r}: {task.name} is a number in {task.unit}; write one") from None
    return {"state": "known", "text": value}


def _restated(task: Task, row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of `LABELS` of a statement."""
    if row["state"] == UNSURE:
        raise BadInput(f"{row['annotator']}: could not tell, which settles nothing; name a value")
    if row["state"] != KNOWN:
        return {"state": INAPPLICABLE}
    names = {
        "text": None if row["code"] is None else task.classes[row["code"]],
        "names": None if row["codes"] is None else [task.classes[code] for code in row["codes"]],
        "looked": None if row["looked"] is None else [task.classes[code] for code in row["looked"]],
        "boxes": None if row["boxes"] is None else [
            {**box, "class": task.classes[box["code"]]} for box in row["boxes"]
        ],
    }  # fmt: skip
    return {"state": "known", "number": row["number"], **names}
