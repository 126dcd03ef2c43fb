"""The figures of a run that the catalog records: one for every (task, slice) and evaluation split; without torch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np
import pyarrow as pa

from curation.arrays import Bools
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from training.evaluation.drawn_labels import Batch
from training.evaluation.intervals import Figure, balanced, mean_of, proportion
from training.evaluation.labelled_boxes import LabelledBoxes, labelled_boxes
from training.evaluation.labelled_classes import LabelledClasses, labelled_classes
from training.evaluation.predictions import LabelledPredictions, PredictionsFile, Samples, labelled_predictions

__all__ = ["SPLITS", "Labelled", "figure_of", "figures_of", "labelled", "slice_errors", "within"]


SPLITS = ("validation", "test")

ERRORS = pa.schema(
    [
        ("run", pa.string()),
        ("task", pa.string()),
        ("slice", pa.string()),
        ("split", pa.string()),
        ("metric", pa.string()),
        ("n", pa.int64()),
        ("groups", pa.int64()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)


def slice_errors(now: Snapshot, run: str, tasks: list[Task], predictions: Path) -> pa.Table:
    """Figures of a predictions file on every (task, slice, split), against the labels that are known at `now`.

    The columns are those of `ERRORS`; the slice "" is everything. value, low and high are null without data.
    """
    samples, file = Samples.at(now), PredictionsFile(predictions)
    slices = now.slices()
    found = now.members_of({name: part.predicate for name, part in slices.items()}, predictions=str(predictions))
    members: dict[str, Bools] = {"": np.ones(len(samples.ids), np.bool_)}
    members |= {name: samples.marked(ids) for name, ids in found.items()}
    splits = {split: np.asarray(samples.splits == split, np.bool_) for split in SPLITS}
    rows = []
    for task in tasks:
        predicted = labelled(now, task, samples, file.of(task.name))
        if isinstance(predicted, LabelledPredictions):  # figures need no probabilities
            predicted = replace(predicted, probabilities=np.empty((len(predicted.rows), 0)))
        own = [name for name in members if not name or slices[name].task in ("", task.name)]
        parts = {split: within(predicted, judged) for split, judged in splits.items()}
        for name in own:
            for split, part in parts.items():
                for metric, figure in _recorded(task, part(members[name])).items():
                    rows.append({"run": run, "task": task.name, "slice": name, "split": split, "metric": metric,
                                 **vars(figure)})  # fmt: skip
    return pa.Table.from_pylist(rows, ERRORS)


Labelled = LabelledPredictions | LabelledBoxes | LabelledClasses
"""The predictions of a task beside its known labels, by kind."""


def labelled(now: Snapshot, task: Task, samples: Samples, predictions: pa.Table) -> Labelled:
    """The predictions of a task of any kind beside its known labels."""
    if task.kind == "detection":
        return labelled_boxes(now, task, samples, predictions)
    if task.kind == "multilabel":
        return labelled_classes(now, task, samples, predictions)
    return labelled_predictions(now, task, samples, predictions)


class _Judged(Protocol):
    @property
    def batches(self) -> Sequence[Batch]: ...
    def at(self, cell: Bools, /) -> Self: ...


Part = TypeVar("Part", bound=_Judged)


def within(predicted: Part, outer: Bools) -> Callable[[Bools], Part]:
    """A function that gives the predictions in a cell [N] and in `outer` [N], for many cells."""
    if predicted.batches:  # the weight of a drawn label follows from the whole cell
        return lambda cell: predicted.at(cell & outer)
    narrow = predicted.at(outer)
    return narrow.at


def figures_of(task: Task, predicted: Labelled) -> dict[str, Figure]:
    """The figures of some of a task's predictions, by metric: its owner's, or those of boxes or of several classes."""
    if not isinstance(predicted, LabelledPredictions):
        return predicted.figures()
    return {task.metric: figure_of(task, predicted, predicted.samples)}


def _recorded(task: Task, predicted: Labelled) -> dict[str, Figure]:
    """`figures_of`, and those of attributes of boxes."""
    more = predicted.attribute_figures() if isinstance(predicted, LabelledBoxes) else {}
    return figures_of(task, predicted) | more


def figure_of(task: Task, predicted: LabelledPredictions, samples: Samples) -> Figure:
    """The figure of a task's own metric over some of its predictions."""
    weights, groups = predicted.weights, samples.groups[predicted.rows]
    if task.metric == "mae":
        return mean_of(predicted.errors, weights, groups)
    right = (predicted.errors == 0).astype(np.float64)
    if task.metric == "balanced_accuracy":
        return balanced(right, predicted.truth.astype(np.int64), weights, groups)
    return proportion(right, weights, groups)
