"""Requests for labels that a trigger puts in question: by themselves, and as one arm of a budget among others.

In a budget each trigger has the weight `PRIOR` x 2 (hits + 1) / (n + 2), and mining `PRIOR_MINED` times the same of its
own: n are its answered requests for the task, and a hit is one that found an error of the run or a sample of a rare
slice. Mining weighs more at first: in some tasks the run errs more on the least sure images than on what fires
(docs/figures.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.compute as pc

from curation.arrays import Bools, Ints
from curation.catalog.slices import Slice
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.requests.budget import largest_remainder
from curation.requests.candidates import Candidates
from curation.requests.cold_start import PRIOR as COLD_ARMS
from curation.requests.evaluation_labels import request_rows
from curation.requests.outcomes import Outcomes
from curation.requests.strategies import Pick, one_of_each_group
from curation.requests.trigger_views import AGAINST_LABEL
from curation.requests.triggers import Trigger, Triggers, check_names

__all__ = ["TriggerArms", "check_arms", "rows_to_ask"]

PRIOR: Final = 1.0
PRIOR_MINED: Final = 3.0
MINED: Final = ("mined", *COLD_ARMS)
"""The arms of mining."""


@dataclass(frozen=True, kw_only=True)
class TriggerArms:
    """Triggers by name as arms of a budget over `candidates`; they give labels that are neither known nor requested."""

    candidates: Candidates
    triggers: Triggers
    chosen: Sequence[Trigger]
    outcomes: Outcomes
    _fired: dict[tuple[str, str], Ints] = field(default_factory=dict)

    @classmethod
    def of(cls, candidates: Candidates, triggers: Triggers, home: Path, names: Sequence[str]) -> "TriggerArms":
        """The triggers of these names; BadInput where one is none, or asks for known labels again."""
        _check_shared(names)
        outcomes = Outcomes.at(candidates.now, home)
        return cls(candidates=candidates, triggers=triggers, chosen=triggers.named(names), outcomes=outcomes)

    def picks(self, task: Task, slice_: Slice | None, count: int) -> list[Pick]:
        """The rows that triggers get of `count` labels for a slice of a task (None: the whole task).

        Each trigger gives one image of each group first, of those about which the run is least sure. What it cannot
        give is left to mining.
        """
        mine = [part for part in self.chosen if part.task == task.name]
        hits, made = np.sum([self.outcomes.hits(task.name, arm) for arm in MINED], axis=0).tolist()
        weights = {"": PRIOR_MINED * 2 * (hits + 1) / (made + 2)}
        for part in mine:
            hits, made = self.outcomes.hits(task.name, part.arm)
            weights[part.arm] = PRIOR * 2 * (hits + 1) / (made + 2)
        shares, free = largest_remainder(weights, count), self._free(task, slice_)
        picks = list[Pick]()
        for part in mine:
            rows = self._order(part)
            rows = rows[free[rows]][: shares[part.arm]]
            free[rows] = False
            picks += [Pick(row=row, arm=part.arm, reason=f"{part.name}: {part.why}") for row in rows.tolist()]
        return picks

    def _free(self, task: Task, slice_: Slice | None) -> Bools:
        open_ = self.candidates.open[task.name].copy()
        return open_ if slice_ is None else open_ & self.candidates.could_be_inside(task, slice_)

    def _order(self, part: Trigger) -> Ints:
        """The rows that fire a trigger, best first."""
        if (part.name, part.task) not in self._fired:
            open_ = self.candidates.open[part.task]
            self._fired[part.name, part.task] = _ordered(self.candidates, self.triggers, part, ~open_)
        return self._fired[part.name, part.task]


def check_arms(now: Snapshot, names: Sequence[str], *, against: str = "") -> None:
    """Refuse, before there is a run, names of triggers that cannot be arms of a budget."""
    _check_shared(names)
    check_names(now, names, against=against)


def rows_to_ask(
    now: Snapshot, home: Path, triggers: Triggers, chosen: Sequence[Trigger], count: int
) -> list[dict[str, object]]:
    """Rows of `REQUESTS` for `count` labels of training images that fire the `chosen` triggers, which take turns: one
    of each group first, of those about which the run is least sure.

    Labels that are neither known nor requested are asked for; known ones again, once, where a trigger reads the label
    of its task. BadInput where fewer than `count` are left.
    """
    candidates, ids = Candidates(now, home, run=triggers.run), now.task_ids()
    free = {
        task.name: candidates.open.get(task.name, np.zeros(len(candidates.ids), np.bool_)) for task in triggers.tasks
    }
    again = {task.name: _labelled(candidates, task.name) for task in triggers.tasks}
    lines = list[list[tuple[Trigger, int]]]()
    for part in chosen:
        left = free[part.task] | again[part.task] if part.asks_again else free[part.task]
        rows = _ordered(candidates, triggers, part, ~left)
        rows = rows[left[rows]]
        free[part.task][rows] = again[part.task][rows] = False
        lines.append([(part, row) for row in rows.tolist()])
    turns = [turn for line in lines for turn in enumerate(line)]
    picked = [pick for _, pick in sorted(turns, key=lambda turn: turn[0])]
    if not 1 <= count <= len(picked):
        raise BadInput(
            f"--ask {count}: {len(picked):,} labels of training images that fire can be requested; "
            + (f"ask for 1 to {len(picked):,}" if picked else "there is nothing to ask")
        )
    found = list[dict[str, object]]()
    for part, row in picked[:count]:
        found += request_rows(
            candidates.ids[[row]], np.ones(1), task_id=ids[part.task], arm=part.arm, run=triggers.run,
            reason=f"{part.name}: {part.why}",
        )  # fmt: skip
    return [{**row, "priority": priority} for priority, row in enumerate(found)]


def _check_shared(names: Sequence[str]) -> None:
    if AGAINST_LABEL in names:
        raise BadInput(f"trigger {AGAINST_LABEL!r}: asks for known labels again; use `amber triggers --ask` for it")


def _ordered(candidates: Candidates, triggers: Triggers, part: Trigger, taken: Bools) -> Ints:
    """The rows that fire a trigger: one of each group first, those that are `taken` [N] before all others; in a group
    that about which the run is least sure."""
    fired, _ = triggers.fired(part)
    rows = np.flatnonzero(np.isin(candidates.ids, fired))
    sure = triggers.confidence(part.task, candidates.ids[rows])
    order = rows[np.argsort(np.where(np.isfinite(sure), sure, 0.0), kind="stable")]
    return one_of_each_group(order, candidates.groups, taken)


def _labelled(candidates: Candidates, task: str) -> Bools:
    """The rows [N] whose label may be requested again: it is known, and no trigger or doubt has asked for it yet."""
    requests = candidates.now.requests()
    mine = pc.and_(pc.equal(requests["task"], task), pc.not_equal(requests["state"], "withdrawn"))
    held = requests.filter(mine)
    questioned = pc.or_(pc.equal(held["arm"], "doubt"), pc.starts_with(held["arm"], "trigger:"))
    asked = held.filter(pc.or_(questioned, pc.equal(held["state"], "open")))["sample_id"].to_numpy()
    known = candidates.known(task)["sample_id"].to_numpy()
    return np.isin(candidates.ids, known) & ~np.isin(candidates.ids, asked)
