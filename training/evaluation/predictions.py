"""A run's predictions beside the labels that are known at a commit; without torch."""

from collections.abc import Iterable
from dataclasses import dataclass
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
from training.evaluation.decisions import decided

__all__ = [
    "PREDICTIONS", "LabelledPredictions", "Samples", "class_table", "labelled_predictions", "number_table", "rows_of",
    "write_predictions",
]  # fmt: skip

PREDICTIONS = pa.schema(
    [
        ("key", pa.string()), ("task", pa.string()), ("code", pa.int32()), ("number", pa.float64()),
        ("confidence", pa.float64()), ("probabilities", pa.list_(pa.float64())),
    ]
)  # fmt: skip
"""The predictions file of a run: a row for each (sample, task), the rows of a task together."""


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
    recorded none.
    """

    rows: Ints
    truth: Floats
    predicted: Floats
    confidence: Floats
    probabilities: Floats

    @property
    def errors(self) -> Floats:
        """Distance [n] of each prediction from the truth; 0 where it is right."""
        return np.abs(self.predicted - self.truth)

    def at(self, samples: Bools) -> Self:
        """Only the predictions for the samples that are marked in `samples`."""
        here = samples[self.rows]
        return type(self)(**{name: value[here] for name, value in vars(self).items()})


def write_predictions(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write the predictions of each task, a table of `PREDICTIONS` each, as one file; whole or not at all."""
    with whole(path) as part, pq.ParquetWriter(part, PREDICTIONS, use_dictionary=["task"]) as writer:
        for table in tables:
            writer.write_table(table)


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


def labelled_predictions(now: Snapshot, task: Task, samples: Samples, predictions: pa.Table) -> LabelledPredictions:
    """The predictions of one task (key, task, code or number, confidence, probabilities) beside its known labels."""
    column = "number" if task.kind == "regression" else "code"
    labels = now.labels(task.name)
    known = labels.filter(pc.equal(labels["state"], 1))
    truth = np.full(len(samples.ids), np.nan)
    truth[rows_of(samples.ids, known)] = known[column].to_numpy()
    mine = predictions.filter(pc.equal(predictions["task"], task.name))
    found = pc.fill_null(pc.index_in(mine["key"], value_set=samples.keys), -1).to_numpy()
    predicted = np.asarray(pc.cast(mine[column], pa.float64()).to_numpy(), np.float64)
    usable = np.flatnonzero((found >= 0) & np.isfinite(predicted) & np.isfinite(truth[found]))
    usable = usable[np.argsort(found[usable], kind="stable")]
    mine, rows = mine.take(pa.array(usable)), found[usable].astype(np.int64)
    return LabelledPredictions(
        rows=rows, truth=truth[rows], predicted=predicted[usable],
        confidence=np.asarray(pc.cast(mine["confidence"], pa.float64()).to_numpy(), np.float64),
        probabilities=_probabilities(mine, len(task.classes)),
    )  # fmt: skip


def rows_of(ids: Ints, labels: pa.Table) -> Ints:
    """The position in `ids` of the sample of each label."""
    order = np.argsort(ids)
    return np.asarray(order[np.searchsorted(ids[order], labels["sample_id"].to_numpy())], np.int64)


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
