"""How many labels a figure takes: from heads refitted on parts of the labels, or from the runs of the workspace."""

from dataclasses import dataclass

import numpy as np

from amber.extras import need_extra
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput, Damaged, NotFound
from curation.requests.label_cost import LabelCost, label_cost
from training.judging.forecast import FEWEST, CurvePoint, Forecast, check_target, forecast, is_share
from training.judging.label_history import label_history, learned_labels, own_metric, trained_runs
from training.run import Run

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
    own = own_metric(task)
    share = is_share(metric or own)
    check_target(target, metric or own, share=share)
    history = label_history(now, catalog.home, task, slice_, split=split, metric=metric)
    points, source, missing = history.points, "runs", list[str]()
    if not from_runs and history.metric == own:
        try:
            refitted = _refitted(catalog, now, task, slice_, history.split)
        except (BadInput, NotFound, Damaged) as error:
            missing = [f"no head is refitted: {error}"]
        else:
            if len(refitted) >= FEWEST:
                points, source = refitted, "refits"
            else:
                missing = [f"no head is refitted: parts of the labels give {len(refitted)} of {FEWEST} points"]
    try:
        found = forecast(points, target, share=share)
    except BadInput as error:
        raise BadInput("; ".join([str(error), *missing])) from error
    known = now.labels.known([task.name])["sample_id"].to_numpy()
    return LabelForecast(
        task=task.name, slice=slice_, metric=history.metric, split=history.split, source=source, points=points,
        forecast=found, cost=label_cost(now, task.name), unlabelled=len(np.setdiff1d(now.training_ids(), known)),
        notes=[*history.notes, *missing],
    )  # fmt: skip


def _refitted(catalog: Catalog, now: Snapshot, task: Task, slice_: str, split: str) -> list[CurvePoint]:
    """The points of heads refitted on nested parts of the labels that are known now."""
    need_extra("train")
    from training.loop.label_curves import refitted_curve
    from training.loop.refits import refits_of, why_not_refitted

    if slice_ and now.slice(slice_).reads_predictions:
        raise BadInput(f"slice {slice_}: reads predictions, so its images differ from head to head")
    runs = [entry.run for entry in trained_runs(now, catalog.home)[0]]
    run = next((run for run in runs if learned_labels(catalog.home, Run.open(catalog.home, run)).get(task.name)), "")
    if not run:
        raise BadInput(f"task {task.name}: no run that can be read learned it; `amber train` makes one")
    if why := why_not_refitted(catalog, now, run, task.name):
        raise BadInput(f"task {task.name}: {why}")
    found = refits_of(catalog, now, run, split=split, tasks=[task.name]).get(task.name)
    if found is None or found.judged_on != split:
        raise BadInput(f"task {task.name}: no label of {split} has cached features; `amber train` makes them")
    inside = found.judged.samples.marked(now.members(now.slice(slice_).predicate)) if slice_ else None
    return refitted_curve(found, inside)
