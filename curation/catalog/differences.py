"""Changes of current labels between two commits, by task and slice."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Ints
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.rows import Rows, tabled

__all__ = ["Difference", "definition_changes", "differences", "slice_changes"]

VALUES = ["code", "number", "codes", "looked", "boxes"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How the current labels of one task changed between two commits, on the samples in a slice at either commit.

    `before` and `after` count known labels. `learned` became known, `changed` are known with another value, `doubted`
    became unsure, `lost` became unknown. The slice "" holds all samples.
    """

    task: str
    slice: str
    before: int
    after: int
    learned: int
    changed: int
    doubted: int
    lost: int


@tabled(Difference)
def differences(before: Snapshot, after: Snapshot, tasks: Collection[str] | None = None) -> list[Difference]:
    """A row for each (task, slice) of `after` with a change. Slices over predictions are left out.

    Only `tasks` are looked at (default: all); where a commit changed labels of a few, that is much faster.

    BadInput when `before` is the later commit.
    """
    if before.commit > after.commit:
        raise BadInput(f"commits {before.commit} and {after.commit}: the earlier one comes first; swap them")
    names = [name for name in after.tasks() if tasks is None or name in tasks]
    slices = {
        name: part for name, part in after.slices().items()
        if not part.reads_predictions and (part.task in names or (names and not part.task))
    }  # fmt: skip
    inside = {
        name: pa.array(np.union1d(_members(before, name), after.members(part.predicate)))
        for name, part in slices.items()
    }
    rows = []
    for task in names:
        moves = _moves(before.labels(task) if task in before.tasks() else None, after.labels(task))
        rows.append(_row(task, "", moves))
        for name, members in inside.items():
            if slices[name].task in ("", task):
                rows.append(_row(task, name, moves.filter(pc.is_in(moves["id"], members))))
    return [row for row in rows if row.learned or row.changed or row.doubted or row.lost]


def definition_changes(before: Snapshot, after: Snapshot) -> Rows[dict[str, object]]:
    """A row for each field of a task that was defined otherwise: task, field, before (None for a new task), after."""
    old, rows = before.tasks(), Rows[dict[str, object]]([], ("task", "field", "before", "after"))
    for name, task in after.tasks().items():
        was, now = old[name].model_dump(mode="json") if name in old else {}, task.model_dump(mode="json")
        rows += [
            {"task": name, "field": field, "before": was.get(field), "after": now.get(field)}
            for field in dict.fromkeys([*now, *was])
            if (was and was.get(field) != now.get(field)) or (not was and field in ("owner", "classes", "metric"))
        ]
    return rows


def slice_changes(before: Snapshot, after: Snapshot) -> Rows[dict[str, object]]:
    """A row for each slice that was added, removed or declared otherwise: slice, and its predicate before and after.

    The predicate is None where there is no such slice.
    """
    old, new = before.slices(), after.slices()
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    rows: list[dict[str, object]] = [
        {
            "slice": name, "before": old[name].predicate if name in old else None,
            "after": new[name].predicate if name in new else None,
        }
        for name in names
    ]  # fmt: skip
    return Rows(rows, ("slice", "before", "after"))


def _members(before: Snapshot, name: str) -> Ints:
    """Members of a slice at the earlier commit; none when it was not declared yet."""
    part = before.slices().get(name)
    return before.members(part.predicate) if part and not part.reads_predictions else np.empty(0, np.int64)


def _moves(before: pa.Table | None, after: pa.Table) -> pa.Table:
    """A row for each sample labelled at either commit: id, states `was` and `is` (0: unknown), `same` value or not."""
    old = after.slice(0, 0) if before is None else before
    ids = pa.array(np.union1d(old["sample_id"].to_numpy(), after["sample_id"].to_numpy()))
    sides = [side.take(pc.index_in(ids, value_set=side["sample_id"].combine_chunks())) for side in (old, after)]
    states = [pc.fill_null(side["state"], 0) for side in sides]
    same = np.ones(len(ids), np.bool_)
    for name in (name for name in VALUES if any(side[name].null_count < len(side) for side in sides)):
        old_values, new_values = (side[name].to_pylist() for side in sides)
        same &= np.fromiter((a == b for a, b in zip(old_values, new_values, strict=True)), np.bool_)
    return pa.table({"id": ids, "was": states[0], "is": states[1], "same": same})


def _row(task: str, name: str, moves: pa.Table) -> Difference:
    was, is_, same = (np.asarray(moves[column].to_numpy()) for column in ("was", "is", "same"))
    return Difference(
        task=task, slice=name, before=int((was == 1).sum()), after=int((is_ == 1).sum()),
        learned=int(((was != 1) & (is_ == 1)).sum()), changed=int(((was == 1) & (is_ == 1) & ~same).sum()),
        doubted=int(((was != 2) & (is_ == 2)).sum()), lost=int(((was != 0) & (is_ == 0)).sum()),
    )  # fmt: skip
