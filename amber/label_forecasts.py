"""How many labels a figure takes: from heads refitted on parts of the labels, or from the runs of the workspace."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from amber.extras import need_extra
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput, Damaged, NotFound
from curation.requests.label_cost import LabelCost, label_cost
from training.judging.forecast import FEWEST, CurvePoint, Forecast, check_target, forecast
from training.judging.label_history import label_history, trained_runs

__all__ = ["LabelForecast", "forecast_labels"]


@dataclass(frozen=True, kw_only=True)
class LabelForecast:
    """A forecast of one (task, slice) with its curve, what the labels cost, and how it was made.

    `source` is "refits" (heads solved again on cached features) or "runs". `unlabelled` training images have no known
    label of the task. `notes` say what was left out.
    """

    task: str
    slice: str
    metric: str
    split: str
    source: str
    forecast: Forecast
    cost: LabelCost
    unlabelled: int
    points: list[CurvePoint]
    notes: list[str]


def forecast_labels(
    catalog: Catalog, now: Snapshot, task_name: str, slice_: str, target: float, *, split: str = "", metric: str = "",
    from_runs: bool = False,
) -> LabelForecast:  # fmt: skip
    """The labels of a task that its figure on a slice ("": everything) takes to reach `target`.

    Heads are refitted where the newest run that learned the task has cached features, unless `from_runs`. BadInput for
    a target that the metric cannot have, and where there are fewer than `FEWEST` points.
    """
    task = now.task(task_name)
    check_target(target, metric or task.metric, share=task.kind != "regression")
    history = label_history(now, catalog.home, task, slice_, split=split, metric=metric)
    points, source, notes = history.points, "runs", history.notes
    if not from_runs and history.metric == task.metric:
        try:
            refitted = _refitted(catalog, now, task, slice_, history.split)
        except (BadInput, NotFound, Damaged) as error:
            notes = [*notes, f"no head is refitted: {error}"]
        else:
            if len(refitted) >= FEWEST:
                points, source = refitted, "refits"
    known = now.labels.known([task.name])["sample_id"].to_numpy()
    return LabelForecast(
        task=task.name, slice=slice_, metric=history.metric, split=history.split, source=source, points=points,
        forecast=forecast(points, target, share=task.kind != "regression"), cost=label_cost(now, task.name),
        unlabelled=len(np.setdiff1d(now.training_ids(), known)), notes=notes,
    )  # fmt: skip


def _refitted(catalog: Catalog, now: Snapshot, task: Task, slice_: str, split: str) -> list[CurvePoint]:
    """The points of heads refitted on nested parts of the labels that are known now."""
    need_extra("train")
    from training.loop.label_curves import refitted_curve
    from training.loop.refits import refits_of

    if slice_ and now.slice(slice_).reads_predictions:
        raise BadInput(f"slice {slice_}: reads predictions, so its images differ from head to head")
    run = next(entry.run for entry in trained_runs(now, catalog.home)[0] if _learned(entry.figures, task))
    found = refits_of(catalog, now, run, split=split, tasks=[task.name]).get(task.name)
    if found is None or found.judged_on != split:
        raise BadInput(f"task {task.name}: no label of {split} has cached features; `amber train` makes them")
    inside = found.judged.samples.marked(now.members(now.slice(slice_).predicate)) if slice_ else None
    return refitted_curve(found, inside)


def _learned(figures: list[dict[str, Any]], task: Task) -> bool:
    return any(row["task"] == task.name for row in figures)
