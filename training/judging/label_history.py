"""The figures of one (task, slice) over the runs of a workspace, by how many labels each learned from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput, Damaged, NotFound
from samplers.plan.plan import Plan
from training.judging.forecast import CurvePoint
from training.run import Run
from training.run_list import RunEntry, list_runs

__all__ = ["LabelHistory", "label_history", "learned_labels", "own_metric", "trained_runs"]


@dataclass(frozen=True, kw_only=True)
class LabelHistory:
    """Points of a curve, by number of labels, and why runs are left out. `metric` names the figure on `split`."""

    points: list[CurvePoint]
    metric: str
    split: str
    notes: list[str]


def label_history(
    now: Snapshot, home: Path, task: Task, slice_: str, *, split: str = "", metric: str = ""
) -> LabelHistory:
    """A point for each number of labels at which a run with the newest run's trunk was judged on the slice ("": all).

    `split` is by default validation, or test where the task has no figure on validation; `metric` the task's own,
    which is "map" for boxes and for several classes. NotFound for an unknown slice; BadInput for a slice of another
    task, for a metric that no run has, and where no label of the slice is known.
    """
    if slice_ and now.slice(slice_).task not in ("", task.name):
        owner = now.slice(slice_).task
        raise BadInput(f"slice {slice_}: is one of {owner}, not of {task.name}; name a slice of {task.name}")
    entries, notes = trained_runs(now, home)
    figures = {entry.run: _figures(now, entry.run, task.name, slice_) for entry in entries}
    rows = [row for found in figures.values() for row in found]
    split = split or ("validation" if any(row["split"] == "validation" and row["n"] for row in rows) else "test")
    metric = metric or own_metric(task)
    _refuse_none(task, slice_, split, metric, rows)
    counted: dict[int, CurvePoint] = {}
    trunk = ""
    for entry in entries:
        run = Run.open(home, entry.run)
        labels = learned_labels(home, run).get(task.name, 0)
        own = [row for row in figures[entry.run] if (row["split"], row["metric"]) == (split, metric)]
        if not own or not labels or own[0]["low"] is None:
            continue
        trunk = trunk or run.recipe.trunk
        if run.recipe.trunk != trunk:
            notes.append(f"run {entry.run}: has the trunk {run.recipe.trunk}, not {trunk}, and is left out")
        elif labels not in counted:
            kept = {name: own[0][name] for name in ("value", "low", "high", "n")}
            counted[labels] = CurvePoint(labels=labels, run=entry.run, **kept)
    points = [counted[labels] for labels in sorted(counted)]
    return LabelHistory(points=points, metric=metric, split=split, notes=notes)


def own_metric(task: Task) -> str:
    """The recorded figure by which a task is judged: its owner's; for boxes and several classes "map"."""
    return "map" if task.kind in ("detection", "multilabel") else task.metric


def trained_runs(now: Snapshot, home: Path) -> tuple[list[RunEntry], list[str]]:
    """The evaluated runs whose plan can be read, the newest first; and why the other evaluated ones cannot be used."""
    kept, notes = list[RunEntry](), list[str]()
    for entry in list_runs(home, now):
        if not entry.commit:
            continue
        if entry.model:
            notes.append(f"run {entry.run}: was imported, so it is unknown how many labels it learned from")
        elif entry.withdrawn:
            notes.append(f"run {entry.run}: is withdrawn, because an image that it was trained on was forgotten")
        else:
            try:
                learned_labels(home, Run.open(home, entry.run))
            except (NotFound, Damaged) as error:
                notes.append(f"run {entry.run}: is left out ({error})")
            else:
                kept.append(entry)
    return kept, notes


def learned_labels(home: Path, run: Run) -> dict[str, int]:
    """How many labels of each task that a run learned its plan holds; NotFound where the plan is missing.

    A run that continues another with `only` some tasks learned these alone.
    """
    found, only = Plan.open(home, run.plan), run.recipe.only
    return {
        part.name: int((found.label_task == code).sum())
        for code, part in enumerate(found.tasks)
        if not only or part.name in only
    }


def _figures(now: Snapshot, run: str, task: str, slice_: str) -> list[dict[str, Any]]:
    rows = now.runs.slice_errors(run).to_pylist()
    return [row for row in rows if row["task"] == task and row["slice"] == slice_]


def _refuse_none(task: Task, slice_: str, split: str, metric: str, rows: list[dict[str, Any]]) -> None:
    where = f"task {task.name} on {slice_ or 'everything'}"
    if not rows:
        raise BadInput(f"{where}: no run has a figure of it; `amber train` makes one, `amber evaluate` a newer one")
    if metric not in (names := sorted({str(row["metric"]) for row in rows})):
        raise BadInput(f"{where}: has no metric {metric}; name one of {', '.join(names)}")
    own = [row for row in rows if row["split"] == split]
    if not any(row["n"] for row in own):
        raise BadInput(f"{where}: no label of {split} is known, so nothing was measured; label some of its images")
    if all(row["low"] is None for row in own if row["metric"] == metric):
        raise BadInput(f"{where}: all labels of {split} are of one group, which gives no interval; label other groups")
