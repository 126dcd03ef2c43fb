"""A run's predictions beside the labels that are known at a commit; without torch."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Self

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
    "ATTRIBUTES", "BOXES", "CLASSES", "DESCRIBED", "GIVEN", "PREDICTIONS", "KnownLabels", "LabelledPredictions",
    "PredictionsFile",
    "Samples", "box_table", "class_table", "filled", "judging_batches", "known_labels", "labelled_predictions",
    "number_table", "places_of", "predictions_of", "probabilities_of", "rows_of", "schema_of", "write_predictions",
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

ATTRIBUTES = [("attributes", pa.map_(pa.string(), pa.string())), ("confidences", pa.map_(pa.string(), pa.float64()))]
"""What is predicted of a box beside its class: the likeliest class or the number of each attribute, as labels state it,
and the probability of that class."""

DESCRIBED = pa.field("boxes", pa.list_(pa.struct([*BOXES.type.value_type, *ATTRIBUTES])))
"""`BOXES` where a task declares attributes of its boxes."""

GIVEN = pa.field("given", pa.list_(pa.struct([*list(BOXES.type.value_type)[:5], *ATTRIBUTES])))
"""One column more there: the known boxes of each image, and what the run predicts of them at their centres."""

CLASSES = pa.field("codes", pa.list_(pa.int32()))
"""One column more where a task is a multilabel one: the codes of the classes that are predicted to be there."""


ROW_GROUP: Final = 32_768
"""Rows of a row group of a predictions file: those for a few images are found without reading all of a task."""


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
        samples = now.samples("sample_id", "key", "group", "split")
        ids = np.asarray(samples["sample_id"].to_numpy(), np.int64)
        groups, (splits, names) = _coded(samples["group"])[0], _coded(samples["split"])
        return cls(
            ids=ids, keys=samples["key"].combine_chunks(), weights=_weights(now, ids), groups=groups,
            splits=np.asarray(names, dtype=object)[splits],
        )  # fmt: skip

    def places(self, ids: Ints) -> Ints:
        """The position of the sample of each of these ids, which must all be samples."""
        return self._row_of_id[ids]

    def marked(self, ids: Ints) -> Bools:
        """Which of the samples [n] have one of these ids."""
        inside = np.zeros(len(self.ids), np.bool_)
        inside[self.places(ids)] = True
        return inside

    @cached_property
    def _row_of_id(self) -> Ints:
        rows = np.zeros(int(self.ids.max(initial=-1)) + 1, np.int64)
        rows[self.ids] = np.arange(len(self.ids))
        return rows


class PredictionsFile:
    """The predictions file of a run, read task by task: where the rows of a task lie together, only those.

    Most runs predict each task for the same images: keys that are stored in the same bytes as those of the task read
    before are not decoded again.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, pq.ParquetFile(path, read_dictionary=["task"])
        self._parts: dict[str, list[int]] | None = self._by_task()
        self._stored, self._keys = list[bytes](), pa.chunked_array([], pa.string())

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks, in the order of the file."""
        if self._parts is not None:
            return list(self._parts)
        return [str(name) for name in pc.unique(self._file.read(columns=["task"])["task"]).to_pylist()]

    def of(self, task: str) -> pa.Table:
        """The rows of one task."""
        if self._parts is None:
            table = self._file.read()
            return table.filter(pc.equal(table["task"], task))
        parts = self._parts.get(task, [])
        stored = self._stored_keys(parts)
        if stored != self._stored:
            self._stored, self._keys = stored, self._file.read_row_groups(parts, columns=["key"])["key"]
        others = [name for name in self._file.schema_arrow.names if name != "key"]
        return self._file.read_row_groups(parts, columns=others).add_column(0, "key", self._keys)

    def each(self, tasks: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        """Each of some tasks and its rows. Those of the next task are read in a thread meanwhile."""
        with ThreadPoolExecutor(1, "amber-predictions") as pool:
            coming = [pool.submit(self.of, task) for task in tasks[:1]]
            for task, following in zip(tasks, [*tasks[1:], None], strict=False):
                table = coming.pop().result()
                coming += [pool.submit(self.of, following)] if following else []
                yield task, table

    def _stored_keys(self, parts: list[int]) -> list[bytes]:
        """The bytes of the keys of some row groups, as they are stored."""
        column, found = self._file.schema_arrow.get_field_index("key"), list[bytes]()
        with self._path.open("rb") as file:
            for number in parts:
                chunk = self._file.metadata.row_group(number).column(column)
                file.seek(chunk.dictionary_page_offset or chunk.data_page_offset)
                found.append(file.read(chunk.total_compressed_size))
        return found

    def _by_task(self) -> dict[str, list[int]] | None:
        """The row groups of each task; None where one holds several tasks, or does not say."""
        column, found = self._file.schema_arrow.get_field_index("task"), dict[str, list[int]]()
        for number in range(self._file.num_row_groups):
            known = self._file.metadata.row_group(number).column(column).statistics
            if known is None or not known.has_min_max or known.min != known.max:
                return None
            found.setdefault(str(known.min), []).append(number)
        return found


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
            return self.taken(np.flatnonzero(here))
        weights = label_weights(self.batches, self.rows, cell) * self.samples.weights[self.rows]
        return replace(self, weights=weights).taken(np.flatnonzero(here & (weights > 0)))

    def taken(self, here: Bools | Ints) -> Self:
        """The predictions that `here` marks [n], or at these positions (faster for few), with their weights."""
        kept = ("samples", "batches")
        return replace(self, **{name: value[here] for name, value in vars(self).items() if name not in kept})


def schema_of(tasks: Iterable[Task]) -> pa.Schema:
    """The columns of the predictions of some tasks: `PREDICTIONS`, and what their kinds add."""
    every = list(tasks)
    kinds, described = {task.kind for task in every}, any(task.attributes for task in every)
    more = [CLASSES] * ("multilabel" in kinds) + [DESCRIBED if described else BOXES] * ("detection" in kinds)
    return pa.schema([*PREDICTIONS, *more, *[GIVEN] * described])


def write_predictions(path: Path, tables: Iterable[pa.Table], schema: pa.Schema = PREDICTIONS) -> None:
    """Write the predictions of each task, a table of `PREDICTIONS` each, as one file; whole or not at all.

    `schema` (of `schema_of`) may have more columns, null for a task without them. A table is made when it is written,
    so one is held at a time.
    """
    with whole(path) as part, pq.ParquetWriter(part, schema, use_dictionary=["task"]) as writer:
        for table in tables:
            writer.write_table(filled(table, schema), row_group_size=ROW_GROUP)


def filled(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with every column of `schema`, null where it lacks one."""
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    found = table.select(schema.names)
    return found if found.schema.equals(schema) else found.cast(schema)


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


def box_table(task: str, keys: pa.Array, boxes: pa.Array, given: pa.Array | None = None) -> pa.Table:
    """Rows of `PREDICTIONS` and `BOXES` for a task of boxes, a list of them for each image [n]; with attributes of
    boxes `DESCRIBED`, and `GIVEN`."""
    empty = [pa.nulls(len(keys), field.type) for field in list(PREDICTIONS)[2:]]
    columns = [keys, pa.repeat(task, len(keys)), *empty, boxes]
    if given is None:
        described = boxes.type.equals(DESCRIBED.type)
        return pa.table(columns, schema=PREDICTIONS.append(DESCRIBED if described else BOXES))
    return pa.table([*columns, given], schema=pa.schema([*PREDICTIONS, DESCRIBED, GIVEN]))


def labelled_predictions(now: Snapshot, task: Task, samples: Samples, predictions: pa.Table) -> LabelledPredictions:
    """The predictions of one task (key, task, code or number, confidence, probabilities) beside its known labels."""
    return KnownLabels.of(now, [task], samples).beside(task, predictions)


@dataclass(frozen=True, kw_only=True)
class KnownLabels:
    """The known labels of some tasks at a snapshot, read once for any number of runs."""

    samples: Samples
    truth: dict[str, Floats]
    batches: dict[str, list[Batch]]

    @classmethod
    def of(cls, now: Snapshot, tasks: Iterable[Task], samples: Samples | None = None) -> Self:
        """The labels of these tasks."""
        samples, every = samples or Samples.at(now), list(tasks)
        return cls(
            samples=samples, truth={task.name: known_labels(now, task, samples) for task in every},
            batches={task.name: judging_batches(now, task, samples) for task in every},
        )  # fmt: skip

    def beside(self, task: Task, predictions: pa.Table) -> LabelledPredictions:
        """The predictions of one task (key, task, code or number, confidence, probabilities) beside its labels."""
        truth = self.truth[task.name]
        rows, *predicted = predictions_of(task, self.samples, predictions, np.isfinite(truth))
        return LabelledPredictions.of(
            self.samples, batches=self.batches[task.name], rows=rows, truth=truth[rows], predicted=predicted[0],
            confidence=predicted[1], probabilities=predicted[2],
        )  # fmt: skip


def known_labels(now: Snapshot, task: Task, samples: Samples) -> Floats:
    """The known label of each sample [N], as a class code or a number; NaN where it is not known."""
    labels = now.labels(task.name, "sample_id", "state", *task.value_columns)
    known = labels.filter(pc.equal(labels["state"], 1))
    truth = np.full(len(samples.ids), np.nan)
    truth[samples.places(known["sample_id"].to_numpy())] = known[_column(task)].to_numpy()
    return truth


def predictions_of(
    task: Task, samples: Samples, predictions: pa.Table, wanted: Bools
) -> tuple[Ints, Floats, Floats, Floats]:
    """The samples among those that `wanted` [N] marks for which a task is predicted, as positions [n], ascending; the
    predictions [n], their confidence [n] and the class probabilities [n, C], as in `LabelledPredictions`."""
    mine = _of_task(predictions, task)
    found = places_of(mine["key"], samples, wanted)
    here = np.flatnonzero(found >= 0)
    here = here[np.argsort(found[here], kind="stable")]
    stated = {_column(task), "confidence", "probabilities"}
    mine = mine.select([name for name in mine.column_names if name in stated]).take(pa.array(here))
    predicted, confidence = (
        np.asarray(pc.cast(mine[name], pa.float64()).to_numpy(), np.float64) for name in (_column(task), "confidence")
    )
    usable = np.isfinite(predicted)
    chances = probabilities_of(mine, len(task.classes))[usable]
    return found[here][usable], predicted[usable], confidence[usable], chances


def places_of(keys: pa.ChunkedArray, samples: Samples, wanted: Bools) -> Ints:
    """The position of the sample of each key [n] among those that `wanted` [N] marks; -1 for any other key."""
    if len(keys) == len(samples.keys) and keys.combine_chunks().equals(samples.keys):
        return np.where(wanted, np.arange(len(wanted)), -1)
    rows = np.flatnonzero(wanted)
    found = pc.fill_null(pc.index_in(keys, value_set=samples.keys.take(pa.array(rows))), -1).to_numpy()
    return np.asarray(np.where(found >= 0, rows[found] if len(rows) else -1, -1), np.int64)


def judging_batches(now: Snapshot, task: Task, samples: Samples) -> list[Batch]:
    """The requests for labels of test images that were drawn to judge a slice, for which and any part of which they
    count, the oldest first; those drawn for the difference of two runs count for that alone."""

    def pool_of(slice_: str, _: str) -> Bools | None:
        test, slices = np.asarray(samples.splits == SPLIT, np.bool_), now.slices()
        if slice_ and (slice_ not in slices or slices[slice_].reads_predictions):
            return None
        return test & samples.marked(now.members(slices[slice_].predicate)) if slice_ else test

    found = batches_of(now, task.name, samples.ids, ESTIMATE, pool_of)
    return [batch for batch in found if (samples.splits[batch.rows] == SPLIT).any()]


def rows_of(ids: Ints, labels: pa.Table) -> Ints:
    """The position in `ids` of the sample of each label."""
    order = np.argsort(ids)
    return np.asarray(order[np.searchsorted(ids[order], labels["sample_id"].to_numpy())], np.int64)


def _coded(texts: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """The code of each text [n] in the sorted distinct texts, and these."""
    coded = pc.dictionary_encode(texts.combine_chunks())
    names = np.asarray(coded.dictionary.to_pylist(), dtype=object)
    order = np.argsort(names)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[coded.indices.to_numpy()], names[order].tolist()


def _column(task: Task) -> str:
    return "number" if task.kind == "regression" else "code"


def probabilities_of(predictions: pa.Table, classes: int) -> Floats:
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


def _of_task(predictions: pa.Table, task: Task) -> pa.Table:
    """The rows of one task; the table itself where it has no others, because a copy of a large one takes long."""
    if pc.unique(predictions["task"]).to_pylist() == [task.name]:
        return predictions
    return predictions.filter(pc.equal(predictions["task"], task.name))
