"""The samples that labels can be requested for, with what the catalog, a run and the embeddings hold about them."""

from collections.abc import Callable, Collection
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools, Float32s, Floats, Ints
from curation.catalog.applicability import applicability
from curation.catalog.schema import KNOWN
from curation.catalog.slices import Slice, columns_of
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput, NotFound
from curation.files.read_back import read_parquet
from curation.images.embeddings import Embeddings, models_of, principal_directions

__all__ = ["Candidates", "inside_by_class"]


WIDTH, SKETCHED, CHUNK = 64, 20_000, 4_096


EVALUATE = "evaluate the run again"


class Candidates:
    """The N training samples of a snapshot that are not excluded, ordered by id; evaluation samples are never here.

    `ids` and `groups` (a code of each) are arrays [N]. `open` holds for each task a mask [N]: true where a label may be
    requested. It is false where there is a label or a request, and where the task does not apply: `inapplicable` [N] by
    known labels, `predicted_inapplicable` [N] by predictions where labels are not known. A row is an index into these
    arrays.
    `tasks` are those of `requestable`. NotFound when the catalog has no run of that name."""

    def __init__(
        self, now: Snapshot, home: Path, *, run: str = "", embeddings: str = "", like: str = "",
        example: Float32s | None = None, named: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.now = now
        self._predictions_path = now.runs.predictions_file(home, run) if run else None
        self._predictions = read_parquet(self._predictions_path, EVALUATE) if self._predictions_path else None
        self.tasks = requestable(now, self._predictions, named)
        self._members: dict[Any, Ints] = {}
        self._current: dict[str, pa.Table] = {}
        self._principal: Float32s | None = None
        self._directions: Float32s | None = None
        self._places: Ints | None = None
        samples = now.samples().sort_by("sample_id")
        samples = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(now.training_ids())))
        self.keys = samples["key"].combine_chunks()
        self.ids: Ints = np.asarray(samples["sample_id"].to_numpy(), np.int64)
        coded = samples["group"].combine_chunks().dictionary_encode(null_encoding="encode")
        self.groups: Ints = np.asarray(coded.indices.to_numpy(), np.int64)
        self.inapplicable: dict[str, Bools] = {}
        self.predicted_inapplicable: dict[str, Bools] = {}
        self.open = {name: self._answerable(task) for name, task in self.tasks.items()}
        self._home, self._model = home, embeddings
        if embeddings and embeddings not in models_of(home):
            Embeddings.open(home, embeddings)  # says what is missing
        self.example = self._example(like, example)

    @property
    def has_predictions(self) -> bool:
        """Whether a run was named."""
        return self._predictions is not None

    @property
    def has_vectors(self) -> bool:
        """Whether embeddings were named."""
        return bool(self._model)

    @cached_property
    def _embeddings(self) -> Embeddings | None:
        """Opened when a vector is first needed, because that reads all of them to check their digest."""
        return Embeddings.open(self._home, self._model) if self._model else None

    def known(self, task: str) -> pa.Table:
        """The known labels of a task on these samples."""
        labels = self._labels(task)
        labels = labels.filter(pc.equal(labels["state"], KNOWN))
        return labels.filter(pc.is_in(labels["sample_id"], value_set=pa.array(self.ids)))

    def members(self, slice_: Slice, assume: dict[str, str | bool | float] | None = None) -> Ints:
        """Ids of all samples in a slice, of any split; `assume` gives every sample the same label of a task."""
        cell = (slice_.predicate, tuple(sorted((assume or {}).items())))
        if cell not in self._members:
            path = str(self._predictions_path) if self._predictions_path else None
            self._members[cell] = self.now.members(slice_.predicate, predictions=path, assume=assume or {})
        return self._members[cell]

    def restricted(self, rows: Ints) -> "Candidates":
        """The same with these rows only (ascending), and masks of its own: the pool of a simulation."""
        part = copy(self)
        part.ids, part.groups, part.keys = self.ids[rows], self.groups[rows], self.keys.take(pa.array(rows))
        part._principal = None if self._principal is None else self._principal[rows]
        part._places = None if self._places is None else self._places[rows]
        for name in ("open", "inapplicable", "predicted_inapplicable"):
            setattr(part, name, {task: mask[rows] for task, mask in getattr(self, name).items()})
        return part

    def inside(self, slice_: Slice) -> Bools:
        """Whether each sample [N] is in the slice by its current labels."""
        return np.isin(self.ids, self.members(slice_))

    def inside_by_class(self, task: Task, slice_: Slice) -> Bools:
        """Whether each sample would be in the slice if its label of `task` were class c: [N, C]."""
        return inside_by_class(self.now, task, slice_, self.ids, self.members)

    def inside_without_class(self, task: Task, slice_: Slice) -> Bools:
        """Whether each sample [N] would be in the slice if its label of a multilabel task held no class."""
        return np.isin(self.ids, self.members(slice_, {task.name: ""}))

    def could_be_inside(self, task: Task, slice_: Slice) -> Bools:
        """Whether each sample [N] could be in the slice, whatever its label of `task` turns out to be."""
        return self.inside_by_class(task, slice_).any(axis=1) | self.inside(slice_)

    def probabilities(self, task: Task) -> Floats | None:
        """Class probabilities [N, C] that the run predicts; None when it has none for the task.

        A sample that is newer than the run gets 1/C for each class. Where an imported run names a class without
        probabilities, it has the prediction's confidence, or 1, and the others share the rest.
        """
        if self._predictions is None or task.kind not in ("binary", "categorical"):
            return None
        predicted = self._predicted(task)
        if not len(predicted):
            return None
        rows = pc.index_in(predicted["key"], value_set=self.keys)
        predicted = predicted.filter(pc.is_valid(rows))
        chances = np.full((len(self.ids), len(task.classes)), 1 / len(task.classes))
        chances[rows.drop_null().to_numpy()] = _chances(predicted, len(task.classes))
        return chances

    def class_chances(self, task: Task) -> Floats | None:
        """The chance [N, C] of each class of a multilabel task by itself; None where the run predicts none.

        A sample that is newer than the run gets 1/2 for each class.
        """
        if self._predictions is None or task.kind != "multilabel":
            return None
        predicted = self._predicted(task)
        if not len(predicted):
            return None
        rows = pc.index_in(predicted["key"], value_set=self.keys)
        lists = predicted["probabilities"].filter(pc.is_valid(rows))
        chances = np.full((len(self.ids), len(task.classes)), 0.5)
        chances[rows.drop_null().to_numpy()] = pc.list_flatten(lists).to_numpy().reshape(-1, len(task.classes))
        return chances

    def predicts(self, task: Task) -> bool:
        """Whether the run predicts the task on any of these samples."""
        return self._predictions is not None and bool(self.predicted(task).any())

    def predicted(self, task: Task) -> Bools:
        """Whether the run predicts the task on each sample [N]; those that are newer than the run lack it."""
        mine = self._predicted(task)["key"].combine_chunks()
        return np.asarray(pc.is_in(self.keys, value_set=mine).to_numpy(zero_copy_only=False), np.bool_)

    def predicted_boxes(self, task: Task) -> tuple[Ints, pa.ChunkedArray]:
        """The boxes [n] of a task that the run predicts, and the sample of each [n] among these N."""
        predicted = self._predicted(task)
        rows = pc.index_in(predicted["key"], value_set=self.keys)
        lists = predicted["boxes"].filter(pc.is_valid(rows))
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        return np.repeat(rows.drop_null().to_numpy(), counts), pc.list_flatten(lists)

    def _predicted(self, task: Task) -> pa.Table:
        """What the run predicts of a task."""
        assert self._predictions is not None
        return self._predictions.filter(pc.equal(self._predictions["task"], task.name))

    def values(self, task: Task) -> tuple[Ints, Floats]:
        """The class of a task on each sample [N]: known, else predicted; and how sure that is [N]: 1 where it is known,
        the prediction's probability, or 0 with class -1 where there is neither."""
        codes, sure = np.full(len(self.ids), -1, np.int64), np.zeros(len(self.ids))
        chances = self.probabilities(task)
        if chances is not None:
            codes, sure = chances.argmax(axis=1), chances.max(axis=1)
        known = self.known(task.name)
        rows = np.searchsorted(self.ids, known["sample_id"].to_numpy())
        codes[rows], sure[rows] = known["code"].to_numpy(), 1.0
        return codes, sure

    def vectors(self, rows: Ints) -> Float32s:
        """Standardised embeddings [n, D] of these rows."""
        assert self._embeddings is not None
        if self._places is None:
            self._places = self._embeddings.places(self.keys)
        places = self._places[rows]
        if (places < 0).any():
            self._embeddings.rows(self.keys.take(pa.array(rows)).to_pylist())  # names the first key without a vector
        return self._embeddings.standardised(places)

    def principal(self) -> Float32s:
        """Embeddings of all samples on about 64 principal directions [N, 64], by which a cold start measures distances,
        since it looks at every sample."""
        if self._principal is None:
            self._principal = self.principal_of(np.arange(len(self.ids)))
        return self._principal

    def principal_of(self, rows: Ints) -> Float32s:
        """The same of these rows [n, 64]."""
        if self._principal is not None:
            return self._principal[rows]
        if self._directions is None:
            every, generator = np.arange(len(self.ids)), np.random.default_rng(0)
            some = self.vectors(np.sort(generator.permutation(every)[:SKETCHED]))
            self._directions = principal_directions(some, WIDTH, generator)
        parts = [self.vectors(rows[at : at + CHUNK]) @ self._directions for at in range(0, len(rows), CHUNK)]
        return np.asarray(np.concatenate(parts), np.float32) if parts else np.empty((0, WIDTH), np.float32)

    def distances(self) -> Floats | None:
        """The distance [N] of every sample from the example; None without an example."""
        if self.example is None:
            return None
        principal = self.principal()
        assert self._directions is not None
        return np.asarray(np.linalg.norm(principal - self.example @ self._directions, axis=1), np.float64)

    def _example(self, like: str, features: Float32s | None) -> Float32s | None:
        """The standardised features [D] of the sample `like`, or of an image with these `features`; None without."""
        if features is None and not like:
            return None
        if self._embeddings is None:
            raise BadInput(f"--like {like!r}: there are no features to compare images by; train first, or run the loop")
        if features is not None:
            return np.asarray((features - self._embeddings.mean) * self._embeddings.scale, np.float32)
        if not self._embeddings.covers([like]):
            raise NotFound(f"--like {like!r}: the pack holds no image with this key; pack it, or name an image file")
        return np.asarray(self._embeddings.standardised(self._embeddings.rows([like]))[0], np.float32)

    def _labels(self, task: str) -> pa.Table:
        """The current labels of a task, read once."""
        if task not in self._current:
            self._current[task] = self.now.labels(task)
        return self._current[task]

    def _answerable(self, task: Task) -> Bools:
        """Whether a label may be requested of each sample [N]; it also notes where the task does not apply."""
        path = str(self._predictions_path) if self._predictions_path else None
        found, unlabelled = applicability(self.now, task, predictions=path), self._without_label_or_request(task.name)
        self.inapplicable[task.name] = unlabelled & np.isin(self.ids, found.known)
        self.predicted_inapplicable[task.name] = unlabelled & np.isin(self.ids, found.predicted)
        return unlabelled & ~self.inapplicable[task.name] & ~self.predicted_inapplicable[task.name]

    def _without_label_or_request(self, task: str) -> Bools:
        """Whether each sample [N] has no current label of the task and no request that is open or answered.

        A label of several classes in which nobody looked for some of them leaves the sample open.
        """
        requests = self.now.requests()
        mine = pc.and_(pc.equal(requests["task"], task), pc.not_equal(requests["state"], "withdrawn"))
        labels = self._labels(task)
        if self.tasks[task].kind == "multilabel":
            labels = labels.filter(pc.invert(_partial(labels, len(self.tasks[task].classes))))
        taken = [labels["sample_id"].to_numpy(), requests.filter(mine)["sample_id"].to_numpy()]
        return ~np.isin(self.ids, np.concatenate(taken))


def requestable(now: Snapshot, predictions: pa.Table | None, named: Collection[str] = ()) -> dict[str, Task]:
    """The tasks that labels are requested for: all but those of boxes, and those of boxes that a run predicts or that
    are `named`; where there are tasks of boxes alone, all."""
    boxed = set[str]()
    if predictions is not None and "boxes" in predictions.column_names:
        boxed = set(pc.unique(predictions["task"].filter(predictions["boxes"].is_valid())).to_pylist())
    found = {name: task for name, task in now.tasks().items() if task.outputs or name in (*boxed, *named)}
    return found or now.tasks()


def inside_by_class(
    now: Snapshot, task: Task, slice_: Slice, ids: Ints, members: Callable[[Slice, dict[str, Any] | None], Ints]
) -> Bools:
    """Whether each sample of `ids` [N] would be in the slice if its label of `task` were class c: [N, C].

    `members` finds the ids in a slice where every sample has the same given label of a task, or None.
    """
    if not any(name == task.name and family != "attr" for family, name in columns_of(slice_.predicate)):
        return np.repeat(np.isin(ids, members(slice_, None))[:, None], len(task.classes), axis=1)
    if columns_of(slice_.predicate) == (("label", task.name),) and task.kind in ("binary", "categorical"):
        return np.tile(np.array(now.decided_by(slice_.predicate, task), np.bool_), (len(ids), 1))
    labels: list[str | bool] = [False, True] if task.kind == "binary" else list(task.classes)
    columns = [np.isin(ids, members(slice_, {task.name: label})) for label in labels]
    return np.array(columns, np.bool_).reshape(len(columns), len(ids)).T


def _partial(labels: pa.Table, classes: int) -> pa.ChunkedArray:
    """In which known labels nobody looked for some of the classes."""
    return pc.and_(
        pc.equal(labels["state"], KNOWN),
        pc.less(pc.fill_null(pc.list_value_length(labels["looked"]), classes), classes),
    )


def _chances(predicted: pa.Table, classes: int) -> Floats:
    """The class probabilities [n, C] of n predictions: listed, or by the confidence in the class that is named."""
    sure = pc.fill_null(predicted["confidence"].cast(pa.float64()), 1.0).to_numpy()
    chances = np.tile(((1 - sure) / max(1, classes - 1))[:, None], (1, classes))
    chances[np.arange(len(predicted)), predicted["code"].to_numpy()] = sure
    listed = pc.equal(pc.list_value_length(predicted["probabilities"]), classes).fill_null(False)
    flat = pc.list_flatten(predicted["probabilities"].filter(listed)).to_numpy()
    chances[np.asarray(listed.to_numpy(), np.bool_)] = flat.reshape(-1, classes)
    return chances
