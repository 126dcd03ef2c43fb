"""Coverage: numbers of known, unsure, inapplicable and unknown labels by task and slice, and which tasks are labelled
together."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.analysis.colabelling import colabelled
from curation.arrays import Bools, Ints
from curation.catalog.applicability import applicability
from curation.catalog.schema import INAPPLICABLE, KNOWN, UNSURE
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task

__all__ = ["SPLITS", "UNSPLIT", "AnnotatorCount", "Cell", "Coverage", "coverage"]


UNSPLIT: Final = "unsplit"
"""The split of samples that have none yet."""
SPLITS: Final = ("train", "validation", "test", UNSPLIT)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Counts of one (task, slice, split).

    `counts` are known labels by class; a label with several classes counts once in each. `none` counts images that
    somebody looked at and that have none of the classes: they are known. Regression tasks have neither. `inapplicable`
    counts samples to which the task does not apply: an annotator says so, or, where no label is current, the task's
    predicate `applies` is false by the labels that are known.
    """

    task: str
    slice: str
    split: str
    samples: int
    known: int
    unsure: int
    none: int
    counts: dict[str, int]
    inapplicable: int = 0

    @property
    def unknown(self) -> int:
        """Samples without a current label, to which the task may apply."""
        return self.samples - self.known - self.unsure - self.inapplicable


@dataclass(frozen=True, kw_only=True)
class AnnotatorCount:
    """How many samples an annotator labelled for a task, whether or not theirs is the current label."""

    task: str
    annotator: str
    source: str
    labels: int


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """`cells` for each task, slice ("" is all samples) and split; for unsplit samples only where there are any.

    `overlap[a][b]` counts the training samples (all samples while nothing is split yet) that have a known label of both
    tasks. Excluded samples are neither trained on nor evaluated: only `samples`, all of the catalog, counts them.
    """

    commit: int
    samples: int
    cells: tuple[Cell, ...]
    overlap: dict[str, dict[str, int]]
    annotators: tuple[AnnotatorCount, ...] = ()

    def rows(self) -> list[dict[str, object]]:
        """The cells as plain rows."""
        return [{**asdict(cell), "unknown": cell.unknown} for cell in self.cells]

    @property
    def split(self) -> str:
        """The split to train on: train, or unsplit while nothing is split yet."""
        return "train" if any(cell.split == "train" and cell.samples for cell in self.cells) else UNSPLIT


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """N samples: index of the split of each in `SPLITS`, and a mask [N] by slice, false where excluded; `row` [id]
    is the row of an id."""

    row: Ints
    split: Ints
    inside: Mapping[str, Bools]

    @property
    def splits(self) -> int:
        """How many of `SPLITS` are shown: unsplit only where there is such a sample."""
        unsplit = self.split == SPLITS.index(UNSPLIT)
        return len(SPLITS) if (unsplit & self.inside[""]).any() else len(SPLITS) - 1


def coverage(now: Snapshot) -> Coverage:
    """Count every (task, slice, split) at this snapshot, and the co-labelling of every pair of tasks.

    Slices over predictions are left out: they depend on a run.

    >>> counted = coverage(now)
    >>> cell = next(cell for cell in counted.cells if (cell.task, cell.slice, cell.split) == ("color", "", "train"))
    >>> cell.samples == cell.known + cell.unsure + cell.inapplicable + cell.unknown
    True
    """
    tasks, slices = now.tasks(), now.slices()
    counted = {name: part for name, part in slices.items() if not part.reads_predictions}
    samples = _samples(now, {name: part.predicate for name, part in counted.items()})
    cells: list[Cell] = []
    for task in tasks.values():
        labels = _with_inapplicable(now.labels(task.name), applicability(now, task).known)
        rows = samples.row[labels["sample_id"].to_numpy()]
        mine = [name for name in samples.inside if not name or counted[name].task in ("", task.name)]
        cells += _cells(task, labels, rows, samples, mine)
    together = colabelled(now, now.training_ids(before_split=True))
    return Coverage(
        commit=now.commit, samples=len(samples.split), cells=tuple(cells),
        overlap={a: dict(zip(tasks, row, strict=True)) for a, row in zip(tasks, together.tolist(), strict=True)},
        annotators=tuple(AnnotatorCount(**row) for row in now.labels.annotators().to_pylist()),
    )  # fmt: skip


def _samples(now: Snapshot, predicates: Mapping[str, str]) -> _Samples:
    table = now.samples()
    ids = np.asarray(table["sample_id"].to_numpy(), np.int64)
    row = np.zeros(int(ids.max(initial=-1)) + 1, np.int64)
    row[ids] = np.arange(len(ids))
    inside = {"": ~np.asarray(table["excluded"].to_numpy(), np.bool_)}
    for name, predicate in predicates.items():
        inside[name] = np.zeros(len(ids), np.bool_)
        inside[name][row[now.members(predicate)]] = True
        inside[name] &= inside[""]
    split = pc.fill_null(pc.index_in(table["split"], value_set=pa.array(SPLITS)), SPLITS.index(UNSPLIT))
    return _Samples(row=row, split=np.asarray(split.to_numpy(), np.int64), inside=inside)


def _with_inapplicable(labels: pa.Table, ids: Ints) -> pa.Table:
    """`labels`, and an inapplicable one without a value for each of `ids` that has none."""
    new = np.setdiff1d(ids, labels["sample_id"].to_numpy())
    if not len(new):
        return labels
    columns = {name: pa.nulls(len(new), labels.schema.field(name).type) for name in labels.column_names}
    columns |= {"sample_id": pa.array(new), "state": pa.repeat(pa.scalar(INAPPLICABLE, pa.uint8()), len(new))}
    return pa.concat_tables([labels, pa.table(columns, schema=labels.schema)])


def _cells(task: Task, labels: pa.Table, rows: Ints, samples: _Samples, slices: list[str]) -> Iterator[Cell]:
    """The cells of one task, from its labels only, so the cost depends on the labels, not on tasks x samples."""
    state = np.asarray(labels["state"].to_numpy(), np.int64)
    row, code = _classes(task, labels)
    empty = np.bincount(row, minlength=len(state)) == 0
    if task.kind == "multilabel":  # where nobody looked for some classes, one of them may be there
        looked = pc.fill_null(pc.list_value_length(labels["looked"]), len(task.classes)).to_numpy()
        empty &= looked == len(task.classes)
    for name in slices:
        inside = samples.inside[name]
        here, split = inside[rows], samples.split[rows]
        size = np.bincount(samples.split[inside], minlength=len(SPLITS))
        known, unsure, inapplicable, none = (
            np.bincount(split[here & part], minlength=len(SPLITS))
            for part in (state == KNOWN, state == UNSURE, state == INAPPLICABLE, (state == KNOWN) & empty)
        )
        held = here[row]
        cell = split[row[held]] * len(task.classes) + code[held]
        counts = np.bincount(cell, minlength=len(SPLITS) * len(task.classes)).reshape(len(SPLITS), -1)
        for at, word in enumerate(SPLITS[: samples.splits]):
            yield Cell(
                task=task.name, slice=name, split=word, samples=int(size[at]), known=int(known[at]),
                unsure=int(unsure[at]), none=int(none[at]) if task.kind in ("multilabel", "detection") else 0,
                counts=dict(zip(task.classes, counts[at].tolist(), strict=True)), inapplicable=int(inapplicable[at]),
            )  # fmt: skip


def _classes(task: Task, labels: pa.Table) -> tuple[Ints, Ints]:
    """Row and class of each class of each label; a class counts once a label."""
    if task.kind == "regression":
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if task.kind in ("binary", "categorical"):
        code = np.asarray(pc.fill_null(labels["code"], -1).to_numpy(), np.int64)
        row = np.flatnonzero(code >= 0)
        return row, code[row]
    lists = labels["codes" if task.kind == "multilabel" else "boxes"].combine_chunks()
    flat = pc.list_flatten(lists)
    code = pc.struct_field(flat, "code") if task.kind == "detection" else flat
    row = np.asarray(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), np.int64)
    cells = np.unique(row * len(task.classes) + np.asarray(code.to_numpy(zero_copy_only=False), np.int64))
    return cells // len(task.classes), cells % len(task.classes)
