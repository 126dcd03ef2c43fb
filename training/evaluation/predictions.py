"""A run's predictions beside the labels that are known at a commit; without torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.arrays import Bools, Floats, Ints
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.files.atomic import whole
from curation.requests.evaluation_labels import ESTIMATE, SPLIT
from training.evaluation.decisions import decided
from training.evaluation.drawn_labels import Batch, batches_of, label_weights

__all__ = [
    "BOXES", "PREDICTIONS", "LabelledPredictions", "Samples", "box_table", "class_table", "judging_batches",
    "known_labels", "labelled_predictions", "number_table", "predictions_of", "rows_of", "write_predictions",
]  # fmt: skip

PREDICTIONS = pa.schema(
    [
        ("key", pa.string()), ("task", pa.string()), ("code", pa.int32()), ("number", pa.float64()),
        ("confidence", pa.float64()), ("probabilities", pa.list_(pa.float64())),
    ]
)  # fmt: skip
"""The predictions file of a run: a row for each (sample, task), the rows of a task together."""

BOXES = pa.field(
    "boxes",
    pa.list_(
        pa.struct([("code", pa.int32()), *((name, pa.float64()) for name in ("x", "y", "w", "h", "score"))])
    ),
)  # fmt: skip
"""One column more where a task is one of boxes: class code, left and top edge, width and height in pixels, score."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The n samples of a snapshot, ordered by key: ids, keys, splits, group codes, and 1 / propensity as weights."""

    ids: Ints
    keys: pa.Array
    splits: npt.NDArray[np.object_]
    groups: Ints
    weights: Floats

    @classmethod
    def at(cls, now: Snapshot) -> Self:
        samples = now.samples()
        ids = np.asarray(samples["sample_id"].to_numpy(), np.int64)
        names = np.asarray(samples["group"].to_pylist(), dtype=object).astype(str)
        return cls(
            ids=ids, keys=samples["key"].combine_chunks(), weights=_weights(now, ids),
            splits=np.asarray(samples["split"].to_pylist(), dtype=object),
            groups=np.unique(names, return_inverse=True)[1],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LabelledPredictions:
    """The n samples whose label for a task is known and for which a run predicts it.

    `rows` [n] are positions in `Samples`. `truth` and `predicted` [n] are class codes, or numbers. `confidence` [n] is
    the natural probability of the predicted class, and `probabilities` [n, C] those of all classes; NaN where the run
    recorded none. `weights` [n] are inverse propensities: of the sample, times that of the label where it was requested
    with one; 0 where the label says nothing about the cell. `batches` are the requests that were drawn.
    """

    rows: Ints
    truth: Floats
    predicted: Floats
    confidence: Floats
    probabilities: Floats
    weights: Floats
    samples: Samples
    batches: Sequence[Batch] = ()

    @classmethod
    def of(cls, samples: Samples, *, batches: Sequence[Batch] = (), rows: Ints, **columns: Floats) -> Self:
        """The predictions for the samples `rows` [n], with the weights that hold for all images."""
        weights = label_weights(batches, rows, np.ones(len(samples.ids), np.bool_)) * samples.weights[rows]
        return cls(samples=samples, batches=batches, rows=rows, weights=weights, **columns)

    @property
    def errors(self) -> Floats:
        """Distance [n] of each prediction from the truth; 0 where it is right."""
        return np.abs(self.predicted - self.truth)

    @property
    def groups(self) -> Ints:
        """The group [n] of each sample, as a code."""
        return self.samples.groups[self.rows]

    def at(self, cell: Bools) -> Self:
        """Only the predictions for the samples that are marked in `cell` [N], with the weights that hold for it.

        Labels that say nothing about the cell, because they were requested to judge another, are left out.
        """
        here = cell[self.rows]
        if not self.batches:
            return self.taken(here)
        weights = label_weights(self.batches, self.rows, cell) * self.samples.weights[self.rows]
        return replace(self, weights=weights).taken(here & (weights > 0))

    def taken(self, here: Bools | Ints) -> Self:
        """The predictions that `here` marks [n], or at these positions, with their weights."""
        kept = ("samples", "batches")
        return replace(self, **{name: value[here] for name, value in vars(self).items() if name not in kept})


def write_predictions(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write the predictions of each task, a table of `PREDICTIONS` each, as one file; whole or not at all."""
    made = list(tables)
    boxed = any("boxes" in table.column_names for table in made)
    schema = PREDICTIONS.append(BOXES) if boxed else PREDICTIONS
    with whole(path) as part, pq.ParquetWriter(part, schema, use_dictionary=["task"]) as writer:
        for table in made:
            full = table if "boxes" in table.column_names or not boxed else table.append_column(
                BOXES, pa.nulls(len(table), BOXES.type)
            )  # fmt: skip
            writer.write_table(full)


def class_table(task: Task, keys: pa.Array, natural: Floats, prior: Floats) -> pa.Table:
    """Rows of `PREDICTIONS` for a task of classes: natural probabilities [n, C], and the class by the task's rule."""
    code = decided(task, natural, prior)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(natural.ravel()), natural.shape[1]).cast(pa.list_(pa.float64()))
    confidence = pa.array(natural[np.arange(len(keys)), code], pa.float64())
    numbers = pa.nulls(len(keys), pa.float64())
    columns = [keys, pa.repeat(task.name, len(keys)), pa.array(code, pa.int32()), numbers, confidence, lists]
    return pa.table(columns, schema=PREDICTIONS)


def number_table(task: str, keys: pa.Array, numbers: Floats) -> pa.Table:
    """Rows of `PREDICTIONS` for a task of numbers [n]."""
    code, confidence, lists = (pa.nulls(len(keys), kind) for kind in (pa.int32(), pa.float64(), pa.list_(pa.float64())))
    columns = [keys, pa.repeat(task, len(keys)), code, pa.array(numbers, pa.float64()), confidence, lists]
    return pa.table(columns, schema=PREDICTIONS)


def box_table(task: str, keys: pa.Array, boxes: pa.Array) -> pa.Table:
    """Rows of `PREDICTIONS` and `BOXES` for a task of boxes, a list of them for each image [n]."""
    empty = [pa.nulls(len(keys), field.type) for field in list(PREDICTIONS)[2:]]
    columns = [keys, pa.repeat(task, len(keys)), *empty, boxes]
    return pa.table(columns, schema=PREDICTIONS.append(BOXES))


def labelled_predictions(now: Snapshot, task: Task, samples: Samples, predictions: pa.Table) -> LabelledPredictions:
    """The predictions of one task (key, task, code or number, confidence, probabilities) beside its known labels."""
    truth = known_labels(now, task, samples)
    batches = judging_batches(now, task, samples)
    rows, *predicted = predictions_of(task, samples, predictions, np.isfinite(truth))
    return LabelledPredictions.of(
        samples, batches=batches, rows=rows, truth=truth[rows], predicted=predicted[0], confidence=predicted[1],
        probabilities=predicted[2],
    )  # fmt: skip


def known_labels(now: Snapshot, task: Task, samples: Samples) -> Floats:
    """The known label of each sample [N], as a class code or a number; NaN where it is not known."""
    labels = now.labels(task.name)
    known = labels.filter(pc.equal(labels["state"], 1))
    truth = np.full(len(samples.ids), np.nan)
    truth[rows_of(samples.ids, known)] = known[_column(task)].to_numpy()
    return truth


def predictions_of(
    task: Task, samples: Samples, predictions: pa.Table, wanted: Bools
) -> tuple[Ints, Floats, Floats, Floats]:
    """The samples among those that `wanted` [N] marks for which a task is predicted, as positions [n], ascending; the
    predictions [n], their confidence [n] and the class probabilities [n, C], as in `LabelledPredictions`."""
    mine = predictions.filter(pc.equal(predictions["task"], task.name))
    found = pc.fill_null(pc.index_in(mine["key"], value_set=samples.keys), -1).to_numpy()
    predicted = np.asarray(pc.cast(mine[_column(task)], pa.float64()).to_numpy(), np.float64)
    usable = np.flatnonzero((found >= 0) & np.isfinite(predicted) & wanted[found])
    usable = usable[np.argsort(found[usable], kind="stable")]
    mine, rows = mine.take(pa.array(usable)), found[usable].astype(np.int64)
    confidence = np.asarray(pc.cast(mine["confidence"], pa.float64()).to_numpy(), np.float64)
    return rows, predicted[usable], confidence, _probabilities(mine, len(task.classes))


def judging_batches(now: Snapshot, task: Task, samples: Samples) -> list[Batch]:
    """The requests for labels of test images that were drawn to judge runs, the oldest first.

    A batch for the error of a slice counts for this slice and for any part of it; one for the difference of two runs
    only for that difference, so here for nothing.
    """

    def pool_of(slice_: str, _: str) -> Bools | None:
        test = np.asarray(samples.splits == SPLIT, np.bool_)
        if slice_ and (slice_ not in slices or slices[slice_].reads_predictions):
            return None
        return test & np.isin(samples.ids, now.members(slices[slice_].predicate)) if slice_ else test

    slices = now.slices()
    found = batches_of(now, task.name, samples.ids, ESTIMATE, pool_of)
    test = samples.splits == SPLIT
    return [batch for batch in found if test[batch.rows].any()]


def rows_of(ids: Ints, labels: pa.Table) -> Ints:
    """The position in `ids` of the sample of each label."""
    order = np.argsort(ids)
    return np.asarray(order[np.searchsorted(ids[order], labels["sample_id"].to_numpy())], np.int64)


def _column(task: Task) -> str:
    return "number" if task.kind == "regression" else "code"


def _probabilities(predictions: pa.Table, classes: int) -> Floats:
    """Class probabilities [n, C], NaN in the rows that have none."""
    found = np.full((len(predictions), classes), np.nan)
    if "probabilities" in predictions.column_names and classes:
        column = predictions["probabilities"]
        has = pc.equal(pc.list_value_length(column), classes).fill_null(False)
        values = pc.list_flatten(column.filter(has)).to_numpy()
        found[np.asarray(has.to_numpy(), np.bool_)] = values.reshape(-1, classes)
    return found


def _weights(now: Snapshot, ids: Ints) -> Floats:
    """1 / propensity of each sample [n]: how many samples of the natural mixture it counts for."""
    weights = np.ones(len(ids))
    if "propensity" in now.attributes():
        stored = now.attribute("propensity")
        weights[rows_of(ids, stored)] = 1 / stored["value"].to_numpy()
    return weights
