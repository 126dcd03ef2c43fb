"""A run's predictions of a multilabel task beside its known labels: of each class, there, not there, or not known.

Each class is a binary question of its own (`of_class`), so every metric of binary labels holds for it, over the images
in which somebody looked for it. A class that nobody looked for in an image adds nothing there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools, Floats, Int8s, Ints
from curation.catalog.presence import PRESENT, UNSEEN, presence_of_labels, presence_of_lists
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from training.evaluation.drawn_labels import Batch, label_weights
from training.evaluation.intervals import NOT_ENOUGH_DATA, Figure
from training.evaluation.macro import macro_f1, mean_average_precision
from training.evaluation.metrics import ConfusionSums
from training.evaluation.predictions import (
    CLASSES,
    PREDICTIONS,
    LabelledPredictions,
    Samples,
    class_table,
    judging_batches,
    places_of,
    probabilities_of,
)

__all__ = [
    "CLASS_METRICS",
    "LabelledClasses",
    "any_class_table",
    "class_lists_table",
    "known_presence",
    "labelled_classes",
    "thresholds",
]

CLASS_METRICS = ("map", "macro_f1", "micro_f1")
"""The mean over classes of the average precision; the mean over classes of F1; F1 of all statements together."""

THRESHOLD = 0.5
"""The natural probability from which on a class is predicted to be there, unless the task's `decide` names another."""


@dataclass(frozen=True, kw_only=True)
class LabelledClasses:
    """The n images with a known label of a multilabel task and a prediction for it.

    `rows` [n] are positions in `Samples`; `truth` [n, C] the state of each class (1, 0, or -1: nobody looked),
    `probabilities` [n, C] the natural probability that it is there (NaN: none recorded), `predicted` [n, C] whether it
    is predicted. `weights` [n] and `batches` as in `LabelledPredictions`.
    """

    rows: Ints
    truth: Int8s
    probabilities: Floats
    predicted: Bools
    weights: Floats
    samples: Samples
    batches: Sequence[Batch] = ()

    @property
    def groups(self) -> Ints:
        """The group [n] of each image, as a code."""
        return self.samples.groups[self.rows]

    @property
    def known(self) -> Bools:
        """Which classes [n, C] somebody looked for."""
        return np.asarray(self.truth != UNSEEN, np.bool_)

    @property
    def errors(self) -> Floats:
        """The share [n] of the known classes that are predicted wrong."""
        wrong = (self.predicted != (self.truth == 1)) & self.known
        return np.asarray(wrong.sum(axis=1) / np.maximum(self.known.sum(axis=1), 1), np.float64)

    def at(self, cell: Bools) -> Self:
        """Only the images that are marked in `cell` [N], with the weights that hold for it."""
        here, weights = cell[self.rows], self.weights
        if self.batches:
            weights = label_weights(self.batches, self.rows, cell) * self.samples.weights[self.rows]
            here = here & (weights > 0)
        return replace(self, weights=weights).taken(here)

    def taken(self, here: Bools | Ints) -> Self:
        """The images that `here` marks [n], or at these positions, with their weights."""
        kept = ("samples", "batches")
        return replace(self, **{name: value[here] for name, value in vars(self).items() if name not in kept})

    def of_class(self, code: int) -> LabelledPredictions:
        """The class as a binary task, over the images in which somebody looked for it."""
        here = self.known[:, code]
        chance, predicted = self.probabilities[here, code], self.predicted[here, code].astype(np.float64)
        return LabelledPredictions(
            rows=self.rows[here], truth=self.truth[here, code].astype(np.float64), predicted=predicted,
            confidence=np.where(predicted == 1, chance, 1 - chance),
            probabilities=np.stack([1 - chance, chance], axis=1), weights=self.weights[here], samples=self.samples,
        )  # fmt: skip

    def classes(self) -> list[int]:
        """The codes of the classes that are there in some image: those that the mean F1 is over."""
        return [int(code) for code in np.flatnonzero((self.truth == 1).any(axis=0))]

    def ranked_classes(self) -> list[int]:
        """The codes of the classes that are there in some image and not in another: those that `map` is over.

        On a slice of images with a bus any ranking by the bus would be perfect.
        """
        return [code for code in self.classes() if (self.truth[:, code] == 0).any()]

    def confusion(self, code: int) -> ConfusionSums:
        """The confusion sums of one class: 1 is there."""
        own = self.of_class(code)
        return ConfusionSums.of(2, own.truth, own.predicted, own.weights, own.groups)

    def figures(self) -> dict[str, Figure]:
        """The figures of `CLASS_METRICS`."""
        codes, n, groups = self.classes(), len(self.rows), len(np.unique(self.groups))
        if not codes:
            return dict.fromkeys(CLASS_METRICS, replace(NOT_ENOUGH_DATA, n=n, groups=groups))
        mixed = self.ranked_classes()
        ranked = mean_average_precision(
            self.known[:, mixed], self.truth[:, mixed] == 1, self.probabilities[:, mixed], self.weights, self.groups
        )
        sums = [self.confusion(code) for code in codes]
        means = [macro_f1(sums), self.statements().f1(1)]
        return dict(zip(CLASS_METRICS, [replace(part, n=n, groups=groups) for part in [ranked, *means]], strict=True))

    def statements(self) -> ConfusionSums:
        """The confusion sums of all statements of all classes together: 1 is there."""
        image, code = np.nonzero(self.known)
        truth, predicted = (part[image, code].astype(np.float64) for part in (self.truth, self.predicted))
        return ConfusionSums.of(2, truth, predicted, self.weights[image], self.groups[image])


def labelled_classes(now: Snapshot, task: Task, samples: Samples, predictions: pa.Table) -> LabelledClasses:
    """The predictions of one multilabel task (key, task, probabilities, codes) beside its known labels."""
    truth = known_presence(now, task, samples)
    wanted = np.asarray((truth != UNSEEN).any(axis=1), np.bool_)
    batches = judging_batches(now, task, samples)
    mine = predictions.filter(pc.equal(predictions["task"], task.name))
    found = places_of(mine["key"], samples, wanted)
    usable = np.flatnonzero(found >= 0)
    usable = usable[np.argsort(found[usable], kind="stable")]
    rows, mine = found[usable], mine.take(pa.array(usable))
    weights = label_weights(batches, rows, np.ones(len(samples.ids), np.bool_)) * samples.weights[rows]
    return LabelledClasses(
        rows=rows, truth=truth[rows], probabilities=probabilities_of(mine, len(task.classes)),
        predicted=presence_of_lists(mine["codes"].combine_chunks(), None, len(task.classes)) == PRESENT,
        weights=weights, samples=samples, batches=batches,
    )  # fmt: skip


def known_presence(now: Snapshot, task: Task, samples: Samples) -> Int8s:
    """The state of each class of each sample [N, C]: 1 there, 0 not there, -1 not known."""
    labels = now.labels(task.name)
    known = labels.filter(pc.equal(labels["state"], KNOWN))
    found = np.full((len(samples.ids), len(task.classes)), UNSEEN, np.int8)
    found[samples.places(known["sample_id"].to_numpy())] = presence_of_labels(known, len(task.classes))
    return found


def class_lists_table(task: Task, keys: pa.Array, natural: Floats) -> pa.Table:
    """Rows of `PREDICTIONS` and `CLASSES` for a multilabel task: natural probabilities [n, C], one for each class.

    A class is predicted from the threshold on that the task's `decide` names, by default 0.5. `confidence` is that of
    the class in most doubt: the smallest of max(p, 1 - p).
    """
    there = natural >= thresholds(task)
    code = np.nonzero(there)[1]
    offsets = np.r_[0, np.cumsum(there.sum(axis=1))].astype(np.int32)
    codes = pa.ListArray.from_arrays(pa.array(offsets), pa.array(code.astype(np.int32)))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(natural.ravel()), natural.shape[1]).cast(pa.list_(pa.float64()))
    sure = pa.array(np.maximum(natural, 1 - natural).min(axis=1), pa.float64())
    empty = [pa.nulls(len(keys), kind) for kind in (pa.int32(), pa.float64())]
    columns = [keys, pa.repeat(task.name, len(keys)), *empty, sure, lists, codes]
    return pa.table(columns, schema=PREDICTIONS.append(CLASSES))


def any_class_table(task: Task, keys: pa.Array, natural: Floats, prior: Floats) -> pa.Table:
    """Rows of the predictions file for a task of one class or several: `class_table` or `class_lists_table`."""
    if task.kind == "multilabel":
        return class_lists_table(task, keys, natural)
    return class_table(task, keys, natural, prior)


def thresholds(task: Task) -> Floats:
    """The natural probability [C] from which on each class is predicted to be there.

    >>> signs = Task(name="signs", kind="multilabel", classes=("a", "b"), owner="ada", decide={"b": 0.2})
    >>> thresholds(signs).tolist()
    [0.5, 0.2]
    """
    found = np.full(len(task.classes), THRESHOLD)
    rule = task.decision
    for name, threshold in rule if isinstance(rule, tuple) else ():
        found[task.classes.index(name)] = threshold
    return found
