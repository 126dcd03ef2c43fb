"""What changed about each task since the newest run that learned it: labels, classes, how common they are, the gate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Ints
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from samplers.plan.plan import Plan
from training.judging.gate_decisions import gate_decisions
from training.judging.label_history import trained_runs
from training.judging.prevalence import ClassPrevalence, prevalence
from training.run import Run
from training.run_list import ancestors

__all__ = ["MOVED", "MovedClass", "TaskChange", "gate_outcomes", "task_changes"]

MOVED: Final = 0.1
"""A class that became more or less common by a smaller part of what it was has not moved."""
SAME: Final = 1e-6
"""Numbers that differ by less are one label."""


@dataclass(frozen=True, kw_only=True)
class MovedClass:
    """The share of the training images that have a class, before and now, and the 95% interval of the difference."""

    name: str
    before: float
    now: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class TaskChange:
    """What changed about a task since the newest run that learned it (`run`; "" for none), made at the commit `since`.

    The run learned from `labels_before` labels, and `labels` training labels are known now: `new` ones, and those that
    were `corrected` or are `gone`. `classes` says in words what classes it has now and had not, or the reverse.
    `prevalence` are the classes that moved; `not_estimated` says why none could be looked at. `gate` is the newest
    decision on the run ("": none). `frozen`: its trunk does not learn. `has_branch`: the head reads a layer between.
    """

    task: str
    run: str
    since: int
    labels_before: int
    labels: int
    new: int
    corrected: int
    gone: int
    classes: tuple[str, ...]
    prevalence: tuple[MovedClass, ...]
    not_estimated: str
    gate: str
    frozen: bool
    has_branch: bool

    @property
    def stale(self) -> bool:
        """Whether anything changed from which a training could learn."""
        return bool(not self.run or self.new or self.corrected or self.gone or self.classes or self.prevalence)


def task_changes(now: Snapshot, home: Path, *, run: str = "") -> tuple[list[TaskChange], list[str]]:
    """A row for each task of the catalog, in the order of declaration; and notes on runs that cannot be read.

    With `run`, changes are those since that run and the runs that it continues, whatever was trained beside them.
    """
    entries, notes = trained_runs(now, home)
    line = ancestors(home, run) if run else []
    runs = [Run.open(home, entry.run) for entry in entries if not run or entry.run in line]
    plans = {run.plan: Plan.open(home, run.plan) for run in runs}
    gates = gate_outcomes(now)
    trained = now.training_ids()
    frozen = bool(runs) and not runs[0].recipe.learns
    return [_change(now, task, runs, plans, gates, trained, frozen) for task in now.tasks().values()], notes


def _change(
    now: Snapshot, task: Task, runs: list[Run], plans: dict[str, Plan], gates: dict[str, str], trained: Ints,
    frozen: bool,
) -> TaskChange:  # fmt: skip
    labels = _training_labels(now, task, trained)
    run = next((run for run in runs if _learned(run, plans[run.plan], task.name)), None)
    if run is None:
        return TaskChange(
            task=task.name, run="", since=0, labels_before=0, labels=len(labels), new=len(labels), corrected=0, gone=0,
            classes=(), prevalence=(), not_estimated="", gate="", frozen=frozen, has_branch=False,
        )  # fmt: skip
    plan = plans[run.plan]
    code = next(code for code, part in enumerate(plan.tasks) if part.name == task.name)
    before = plan.tasks[code].task
    new, corrected, gone = _label_changes(now, task, before, plan, code, labels)
    moved, reason = _moved(now, task, before, plan.commit)
    return TaskChange(
        task=task.name, run=run.id, since=plan.commit, labels_before=int((plan.label_task == code).sum()),
        labels=len(labels), new=new, corrected=corrected, gone=gone, classes=_class_changes(before, task),
        prevalence=moved, not_estimated=reason, gate=gates.get(run.id, ""), frozen=not run.recipe.learns,
        has_branch=_has_branch(run, task.name),
    )  # fmt: skip


def _learned(run: Run, plan: Plan, task: str) -> bool:
    return any(part.name == task for part in plan.tasks) and (not run.recipe.only or task in run.recipe.only)


def _has_branch(run: Run, task: str) -> bool:
    if run.recipe.solved:
        return any(head.task == task and head.kind == "shared" for head in run.heads)
    return bool(run.recipe.hidden or run.recipe.tree)


def _training_labels(now: Snapshot, task: Task, trained: Ints) -> pa.Table:
    labels = now.labels(task.name)
    known = labels.filter(pc.equal(labels["state"], KNOWN))
    return known.filter(pc.is_in(known["sample_id"], value_set=pa.array(trained)))


def _label_changes(
    now: Snapshot, task: Task, before: Task, plan: Plan, code: int, labels: pa.Table
) -> tuple[int, int, int]:
    """How many labels are new, say something else, and are gone since a plan was made.

    Labels of several classes and boxes count as corrected where anybody labelled them again.
    """
    mine = np.flatnonzero(plan.label_task == code)
    samples = now.samples("key", "sample_id")
    places = pc.index_in(plan.keys.take(pa.array(plan.label_sample[mine])), value_set=samples["key"].combine_chunks())
    ids = pc.fill_null(samples["sample_id"].combine_chunks().take(places), -1).to_numpy()
    known = labels["sample_id"].to_numpy()
    same, at, where = np.intersect1d(ids, known, return_indices=True)
    corrected = 0
    if task.kind in ("multilabel", "detection"):
        given = now.labels.by_annotator(task.name)
        later = given.filter(pc.greater(given["commit_id"], plan.commit))["sample_id"].to_numpy()
        corrected = len(np.intersect1d(same, later))
    elif set(before.classes) == set(task.classes):
        values = labels["number" if task.kind == "regression" else "code"].to_numpy()[where]
        old = plan.label_value[mine[at]]
        if task.classes:
            old = np.array([task.classes.index(name) for name in before.classes])[old.astype(np.int64)]
        corrected = int((np.abs(values - old) > SAME * (1 + np.abs(old))).sum())
    return len(known) - len(same), corrected, len(ids) - len(same)


def _class_changes(before: Task, task: Task) -> tuple[str, ...]:
    added = [f"{name} is new" for name in task.classes if name not in before.classes]
    return (*added, *(f"{name} is gone" for name in before.classes if name not in task.classes))


def _moved(now: Snapshot, task: Task, before: Task, since: int) -> tuple[tuple[MovedClass, ...], str]:
    """The classes whose share differs by more than `MOVED` of it and by more than chance; or why nothing is known.

    The interval of the difference joins those of both shares (MOVER; Zou & Donner 2008) as if they were independent.
    """
    if not task.classes or before.classes != task.classes:
        return (), ""
    try:
        shares = prevalence(now.earlier(since), task), prevalence(now, task)
    except BadInput as error:
        return (), str(error)
    pairs = [_difference(*pair) for pair in zip(*shares, strict=True)]
    return tuple(
        part for part in pairs
        if (part.low > 0 or part.high < 0) and abs(part.now - part.before) > MOVED * part.before
    ), ""  # fmt: skip


def _difference(before: ClassPrevalence, now: ClassPrevalence) -> MovedClass:
    difference = now.value - before.value
    below = np.hypot(now.value - now.low, before.high - before.value)
    above = np.hypot(now.high - now.value, before.value - before.low)
    return MovedClass(
        name=now.name, before=before.value, now=now.value, low=float(difference - below),
        high=float(difference + above),
    )  # fmt: skip


def gate_outcomes(now: Snapshot) -> dict[str, str]:
    """The newest decision of a gate on each run: pass, block or not enough data."""
    return {decision.run: decision.outcome for decision in gate_decisions(now)}
