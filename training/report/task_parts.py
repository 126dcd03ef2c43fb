"""The parts of a report that are about one task of a run, by themselves: tables of classes, of boxes, of labels."""

from collections.abc import Callable
from typing import Any

import numpy as np

from curation.analysis.coverage import Coverage
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.errors import NotFound
from training.evaluation.figures import labelled
from training.evaluation.labelled_boxes import LabelledBoxes
from training.evaluation.labelled_classes import LabelledClasses
from training.evaluation.predictions import LabelledPredictions, PredictionsFile, Samples
from training.report.box_results import boxes_view
from training.report.class_results import class_view
from training.report.formatting import FEW, WIDE
from training.report.list_results import lists_view
from training.report.origin import parent_of, pictures_of, reported, tasks_of
from training.report.other_runs import raised_by_rate, run_before
from training.report.run_results import RunResults, confusion_of, registered_run, verified_predictions

__all__ = ["task_parts"]

View = dict[str, Any]


def task_parts(catalog: Catalog, run: str, task: str, progress: Callable[[int, int], None] | None = None) -> View:
    """What the templates `classes.html`, `boxes.html` and `lists.html` show of one task of an evaluated run.

    NotFound when the run was not evaluated, or does not predict the task; Damaged when its predictions have changed.
    """
    home, tell = catalog.home, progress or (lambda done, total: None)
    origin = reported(home, run)
    with catalog.read() as now:
        entry = registered_run(now, origin.id)
    if task not in (predicted := tasks_of(origin)):
        raise NotFound(f"task {task!r}: run {origin.id} does not predict it (it predicts {', '.join(predicted)})")
    tell(0, 3)
    with catalog.read(entry["commit_id"]) as then:
        results = _results(then, catalog, origin.id, task, entry)
        tell(1, 3)
        before = run_before(then, home, origin.id, results, parent=parent_of(origin))
        pictures = pictures_of(origin, home, then)
    tell(2, 3)
    return {
        "few": FEW, "wide": WIDE, "classes": class_view(results, before, raised_by_rate(results, before)),
        "boxes": boxes_view(results, pictures), "lists": lists_view(results),
    }  # fmt: skip


def _results(then: Snapshot, catalog: Catalog, run: str, task: str, entry: Any) -> RunResults:
    """The results of one task, without what is known of all images."""
    predictions = verified_predictions(catalog.home, entry)
    samples, tasks = Samples.at(then), then.tasks()
    slices = {name: part for name, part in then.slices().items() if part.task in ("", task)}
    members = then.members_of({name: part.predicate for name, part in slices.items()}, predictions=str(predictions))
    test = np.asarray(samples.splits == "test", np.bool_)
    found = labelled(then, tasks[task], samples, PredictionsFile(predictions).of(task))
    sums = {}
    if isinstance(found, LabelledPredictions) and tasks[task].classes:
        sums = {task: confusion_of(tasks[task], found.at(test), samples)}
    inside = {"": np.ones(len(samples.ids), np.bool_)} | {name: samples.marked(ids) for name, ids in members.items()}
    return RunResults(
        tasks=tasks, slices=slices, samples=samples, test=test, inside=inside,
        figures=[row for row in then.runs.figures_of(run, task).to_pylist() if row["split"] == "test"],
        predictions={task: found} if isinstance(found, LabelledPredictions) else {},
        detections={task: found} if isinstance(found, LabelledBoxes) else {},
        listed={task: found} if isinstance(found, LabelledClasses) else {},
        confusion=sums, boxes={}, coverage=Coverage(commit=then.commit, samples=len(samples.ids), cells=(), overlap={}),
        agreement=(), missing=(), commit={},
    )  # fmt: skip
