"""The results of a run: its registered predictions beside the labels of the commit that evaluated it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from curation.analysis.agreement import Agreement, agreement
from curation.analysis.box_attributes import is_of_attribute
from curation.analysis.coverage import Coverage, coverage
from curation.analysis.missingness import Difference, label_missingness
from curation.arrays import Bools, Ints
from curation.catalog.slices import Slice
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import NotFound
from curation.files.read_back import check_sha256
from training.evaluation.figures import labelled
from training.evaluation.intervals import Figure
from training.evaluation.labelled_boxes import BOX_METRICS, LabelledBoxes
from training.evaluation.labelled_classes import CLASS_METRICS, LabelledClasses
from training.evaluation.metrics import ConfusionSums
from training.evaluation.predictions import LabelledPredictions, PredictionsFile, Samples, rows_of

__all__ = [
    "RunResults",
    "class_name",
    "confusion_of",
    "constant_error",
    "load_results",
    "own_metric",
    "registered_run",
    "verified_predictions",
]

Row = Mapping[str, Any]

BOX_WORDS = {"map": "AP", "ap50": "AP50"}
"""COCO's names of the metrics of boxes."""

CLASS_WORDS = {"map": "mean AP", "macro_f1": "mean F1", "micro_f1": "F1 of all statements"}
"""The metrics of a multilabel task in words."""


FIRST = 1_000
"""So many labels are looked at first, since they show most slices to hold several classes."""


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """A run as it was evaluated at one commit.

    `test` and `inside` (slice -> members) are masks over `samples`; `figures` are all but those of attributes of boxes;
    `predictions` are by task of classes or numbers, `detections` by task of boxes, `listed` by multilabel task;
    `confusion` is that on test, by task of classes; `boxes` are the known boxes of each sample, by its row.
    """

    tasks: Mapping[str, Task]
    slices: Mapping[str, Slice]
    figures: Sequence[Row]
    samples: Samples
    test: Bools
    inside: Mapping[str, Bools]
    predictions: Mapping[str, LabelledPredictions]
    detections: Mapping[str, LabelledBoxes]
    listed: Mapping[str, LabelledClasses]
    confusion: Mapping[str, ConfusionSums]
    boxes: Mapping[int, list[tuple[str, Row]]]
    coverage: Coverage
    agreement: Sequence[Agreement]
    missing: Sequence[Difference]
    commit: Row

    @cached_property
    def validation(self) -> Bools:
        """A mask over `samples`."""
        return np.asarray(self.samples.splits == "validation", np.bool_)

    @property
    def judged(self) -> list[str]:
        """The tasks that the run predicts, in the order of the catalog."""
        return [name for name in self.tasks if name in {*self.predictions, *self.detections, *self.listed}]

    def figure(self, task: str, slice_: str, split: str = "test", metric: str = "") -> Row | None:
        """The row of one (task, slice, split), if there is one; of boxes that of one metric, by default COCO's AP."""
        return self._figures.get((task, slice_, split, metric or own_metric(self.tasks[task])))

    @cached_property
    def _figures(self) -> Mapping[tuple[str, str, str, str], Row]:
        return {(row["task"], row["slice"], row["split"], row["metric"]): row for row in self.figures}

    def metric(self, task: str, slice_: str, metric: str = "") -> str:
        """The metric in words; where a slice holds one class only, accuracy is the recall of that class."""
        if self.tasks[task].kind == "detection":
            return BOX_WORDS[metric or BOX_METRICS[0]]
        if self.tasks[task].kind == "multilabel":
            return CLASS_WORDS[metric or CLASS_METRICS[0]]
        if self.tasks[task].metric == "mae":
            return "mean absolute error"
        code = self.only_class(task, slice_)
        if code is not None:
            return f"recall of {class_name(self.tasks[task], code)}"
        return self.tasks[task].metric.replace("_", " ")

    def only_class(self, task: str, slice_: str) -> int | None:
        """The code of the only class among the known labels of a slice; None for numbers, or for several classes."""
        if not slice_ or not self.tasks[task].classes or task not in self.predictions:
            return None
        if (task, slice_) not in self._only:
            self._only[task, slice_] = self._find_only(self.predictions[task], self._inside(slice_))
        return self._only[task, slice_]

    def _find_only(self, predicted: LabelledPredictions, inside: Bools) -> int | None:
        truth = predicted.truth[:0]
        for count in (FIRST, len(predicted.rows)):
            truth = predicted.truth[:count][inside[predicted.rows[:count]]]
            if (truth != truth[:1]).any():
                return None
        return int(truth[0]) if len(truth) else None

    @cached_property
    def _only(self) -> dict[tuple[str, str], int | None]:
        return {}

    def precision_beside(self, task: str, slice_: str) -> Figure | None:
        """For a slice with one class, the precision of that class on all of test; None for any other slice."""
        code = self.only_class(task, slice_)
        return None if code is None else self.confusion[task].precision(code)

    def errors(self, task: str, slice_: str) -> Ints:
        """Positions in the task's predictions that are wrong on test, the most confident (or the worst) first."""
        predicted = self.predictions[task]
        here = (self._inside(slice_) & self.test)[predicted.rows]
        wrong = np.flatnonzero(here & (predicted.errors > 0))
        weight = predicted.errors if self.tasks[task].kind == "regression" else predicted.confidence
        return wrong[np.argsort(-weight[wrong], kind="stable")]

    def constant(self, task: str) -> float:
        """Mean absolute error of the best constant on test; 0 where there is none."""
        return constant_error(self.predictions[task], self.test)

    def _inside(self, slice_: str) -> Bools:
        return self.inside.get(slice_, np.zeros(len(self.test), np.bool_))


def own_metric(task: Task) -> str:
    """The metric by which a task is judged: its owner's, COCO's AP for boxes, or the mean AP for several classes."""
    return {"detection": BOX_METRICS[0], "multilabel": CLASS_METRICS[0]}.get(task.kind, task.metric)


def class_name(task: Task, code: int) -> str:
    """A class as a reader calls it: the classes of the binary task `car` are "car" and "not car"."""
    if task.kind != "binary":
        return task.classes[code]
    return task.name if task.classes[code] == "true" else f"not {task.name}"


def confusion_of(task: Task, predicted: LabelledPredictions, samples: Samples) -> ConfusionSums:
    """The confusion sums of some predictions of a task of classes."""
    weights, groups = predicted.weights, samples.groups[predicted.rows]
    return ConfusionSums.of(len(task.classes), predicted.truth, predicted.predicted, weights, groups)


def registered_run(now: Snapshot, run_id: str) -> Row:
    """The newest registration of the run whose id is `run_id` or begins so; NotFound when the catalog has none."""
    rows = [row for row in now.runs().to_pylist() if row["run"].startswith(run_id)]
    if not rows:
        raise NotFound(f"run {run_id!r}: the catalog has no figures of it; evaluate it first")
    full = now.runs.full_id(run_id)
    newest: Row = [row for row in rows if row["run"] == full][-1]
    return newest


def verified_predictions(home: Path, entry: Row) -> Path:
    """The predictions file of a registered run; Damaged when it has changed since."""
    fix = f"evaluate run {entry['run']!r} again"
    return check_sha256(home / str(entry["predictions"]), str(entry["sha256"]), fix)


def load_results(now: Snapshot, run_id: str, trained: Sequence[str], predictions: Path) -> RunResults:
    """The results of a run that predicts the tasks `trained`, from its predictions file and the labels of `now`."""
    samples, tasks, slices = Samples.at(now), now.tasks(), now.slices()
    members = now.members_of({name: part.predicate for name, part in slices.items()}, predictions=str(predictions))
    everything, test = np.ones(len(samples.ids), np.bool_), np.asarray(samples.splits == "test", np.bool_)
    file = PredictionsFile(predictions)
    found = {name: labelled(now, tasks[name], samples, table) for name, table in file.each(trained)}
    predicted = {name: part for name, part in found.items() if isinstance(part, LabelledPredictions)}
    return RunResults(
        tasks=tasks, slices=slices, samples=samples, test=test,
        inside={"": everything} | {name: samples.marked(ids) for name, ids in members.items()},
        figures=[
            row for row in now.runs.slice_errors(run_id).to_pylist()
            if row["task"] in trained and not is_of_attribute(row["metric"])
        ],
        predictions=predicted, detections={n: part for n, part in found.items() if isinstance(part, LabelledBoxes)},
        listed={name: part for name, part in found.items() if isinstance(part, LabelledClasses)},
        confusion={
            name: confusion_of(tasks[name], part.at(test), samples)
            for name, part in predicted.items() if tasks[name].classes
        },
        boxes=_boxes(now, [task for task in tasks.values() if task.kind == "detection"], samples.ids),
        coverage=coverage(now, members), agreement=[agreement(now, name) for name in tasks],
        missing=label_missingness(now),
        commit=now.log().slice(0, 1).to_pylist()[0],
    )  # fmt: skip


def constant_error(predictions: LabelledPredictions, test: Bools) -> float:
    """Mean absolute error of the best constant on the samples of `test`; 0 where none is known."""
    truth = predictions.at(test).truth
    return float(np.abs(truth - np.median(truth)).mean()) if len(truth) else 0.0


def _boxes(now: Snapshot, tasks: Iterable[Task], ids: Ints) -> dict[int, list[tuple[str, Row]]]:
    """The known boxes of each sample, by its row: class name and the box in pixels."""
    boxes: dict[int, list[tuple[str, Row]]] = {}
    for task in tasks:
        labels = now.labels(task.name)
        known = labels.filter(pc.equal(labels["state"], 1))
        for row, found in zip(rows_of(ids, known).tolist(), known["boxes"].to_pylist(), strict=True):
            boxes.setdefault(row, []).extend((task.classes[box["code"]], box) for box in found or ())
    return boxes
