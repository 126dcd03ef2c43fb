"""Coverage: numbers of known, unsure, inapplicable and unknown labels by task and slice, and which tasks are labelled
together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.analysis.box_attributes import AttributeCount, attribute_counts
from curation.analysis.colabelling import colabelled
from curation.arrays import Ints
from curation.catalog.applicability import applicability
from curation.catalog.schema import INAPPLICABLE, KNOWN, UNSURE
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.rows import Rows

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
    attributes: tuple[AttributeCount, ...] = ()
    """Of the boxes of each task that declares attributes, by split."""

    def rows(self) -> Rows[dict[str, object]]:
        """The cells as plain rows, with how many are `unknown`."""
        rows: list[dict[str, object]] = [{**asdict(cell), "unknown": cell.unknown} for cell in self.cells]
        return Rows(rows, [*(field.name for field in fields(Cell)), "unknown"])

    def __repr__(self) -> str:
        return f"Coverage at commit {self.commit}: {self.samples:,} samples, {len(self.cells):,} cells"

    def _repr_html_(self) -> str:
        return self.rows()._repr_html_()

    @property
    def split(self) -> str:
        """The split to train on: train, or unsplit while nothing is split yet."""
        return "train" if any(cell.split == "train" and cell.samples for cell in self.cells) else UNSPLIT


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """N samples: index of the split of each in `SPLITS`, and `row` [id], the row of an id. Of each of S slices, the
    first of which is "", the rows that are in it and not excluded: `slices` its names, `members` its rows, and `sizes`
    [S, splits]."""

    row: Ints
    split: Ints
    slices: Sequence[str]
    members: Sequence[Ints]
    sizes: Ints

    @cached_property
    def splits(self) -> int:
        """How many of `SPLITS` are shown: unsplit only where there is such a sample."""
        unsplit = self.split == SPLITS.index(UNSPLIT)
        return len(SPLITS) if unsplit[self.members[0]].any() else len(SPLITS) - 1

    @cached_property
    def by_row(self) -> tuple[Ints, Ints]:
        """The slices that hold each sample: `ends` [N + 1], and their numbers, those of row r from ends[r] on."""
        rows = np.concatenate(self.members)
        numbers = np.repeat(np.arange(len(self.members)), [len(part) for part in self.members])
        order = np.argsort(rows, kind="stable")
        return np.searchsorted(rows[order], np.arange(len(self.split) + 1)), numbers[order]

    def held(self, rows: Ints) -> tuple[Ints, Ints]:
        """Every pair of a place among `rows` [n] and the number of a slice that holds this row."""
        ends, numbers = self.by_row
        counts = ends[rows + 1] - ends[rows]
        places = np.repeat(np.arange(len(rows)), counts)
        offsets = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        return places, numbers[np.repeat(ends[rows], counts) + offsets]


def coverage(now: Snapshot, members: Mapping[str, Ints] | None = None) -> Coverage:
    """Count every (task, slice, split) at this snapshot, and the co-labelling of every pair of tasks.

    Slices over predictions are left out: they depend on a run. `members` are the ids in each slice, where they are
    known already.

    >>> counted = coverage(now)
    >>> cell = next(cell for cell in counted.cells if (cell.task, cell.slice, cell.split) == ("color", "", "train"))
    >>> cell.samples == cell.known + cell.unsure + cell.inapplicable + cell.unknown
    True
    """
    tasks, slices = now.tasks(), now.slices()
    counted = {name: part for name, part in slices.items() if not part.reads_predictions}
    if members is None:
        members = now.members_of({name: part.predicate for name, part in counted.items()})
    samples = _samples(now, {name: members[name] for name in counted})
    cells: list[Cell] = []
    for task in tasks.values():
        labels = now.labels(task.name, "sample_id", "state", *task.value_columns)
        labels = _with_inapplicable(labels, applicability(now, task).known)
        rows = samples.row[labels["sample_id"].to_numpy()]
        mine = [at for at, name in enumerate(samples.slices) if not name or counted[name].task in ("", task.name)]
        cells += _cells(task, labels, rows, samples, mine)
    together = colabelled(now, now.training_ids(before_split=True))
    return Coverage(
        commit=now.commit, samples=len(samples.split), cells=tuple(cells),
        overlap={a: dict(zip(tasks, row, strict=True)) for a, row in zip(tasks, together.tolist(), strict=True)},
        annotators=tuple(AnnotatorCount(**row) for row in now.labels.annotators().to_pylist()),
        attributes=attribute_counts(now),
    )  # fmt: skip


def _samples(now: Snapshot, slices: Mapping[str, Ints]) -> _Samples:
    table = now.samples("sample_id", "split", "excluded")
    ids = np.asarray(table["sample_id"].to_numpy(), np.int64)
    row = np.zeros(int(ids.max(initial=-1)) + 1, np.int64)
    row[ids] = np.arange(len(ids))
    kept = ~np.asarray(table["excluded"].to_numpy(), np.bool_)
    found = [np.flatnonzero(kept), *(row[ids_in] for ids_in in slices.values())]
    members = [np.sort(part[kept[part]]) for part in found]
    split = pc.fill_null(pc.index_in(table["split"], value_set=pa.array(SPLITS)), SPLITS.index(UNSPLIT))
    splits = np.asarray(split.to_numpy(), np.int64)
    sizes = np.stack([np.bincount(splits[part], minlength=len(SPLITS)) for part in members])
    return _Samples(row=row, split=splits, slices=["", *slices], members=members, sizes=sizes)


def _with_inapplicable(labels: pa.Table, ids: Ints) -> pa.Table:
    """`labels`, and an inapplicable one without a value for each of `ids` that has none."""
    new = np.setdiff1d(ids, labels["sample_id"].to_numpy())
    if not len(new):
        return labels
    columns = {name: pa.nulls(len(new), labels.schema.field(name).type) for name in labels.column_names}
    columns |= {"sample_id": pa.array(new), "state": pa.repeat(pa.scalar(INAPPLICABLE, pa.uint8()), len(new))}
    return pa.concat_tables([labels, pa.table(columns, schema=labels.schema)])


def _cells(task: Task, labels: pa.Table, rows: Ints, samples: _Samples, slices: Sequence[int]) -> Iterator[Cell]:
    """The cells of one task, from its labels only, so the cost depends on the labels, not on tasks x samples."""
    state = np.asarray(labels["state"].to_numpy(), np.int64)
    row, code = _classes(task, labels)
    empty = np.bincount(row, minlength=len(state)) == 0
    if task.kind == "multilabel":  # where nobody looked for some classes, one of them may be there
        looked = pc.fill_null(pc.list_value_length(labels["looked"]), len(task.classes)).to_numpy()
        empty &= looked == len(task.classes)
    known, unsure, inapplicable, none = (
        _counted(samples, rows[part])
        for part in (state == KNOWN, state == UNSURE, state == INAPPLICABLE, (state == KNOWN) & empty)
    )
    counts = _counted(samples, rows[row], code, len(task.classes))
    for at in slices:
        for split, word in enumerate(SPLITS[: samples.splits]):
            yield Cell(
                task=task.name, slice=samples.slices[at], split=word, samples=int(samples.sizes[at, split]),
                known=int(known[at, split, 0]), unsure=int(unsure[at, split, 0]),
                none=int(none[at, split, 0]) if task.kind in ("multilabel", "detection") else 0,
                counts=dict(zip(task.classes, counts[at, split].tolist(), strict=True)),
                inapplicable=int(inapplicable[at, split, 0]),
            )  # fmt: skip


def _counted(samples: _Samples, rows: Ints, codes: Ints | None = None, classes: int = 1) -> Ints:
    """How many of `rows` [n], each with a code, are in each slice, split and class: [S, splits, C]."""
    places, slices = samples.held(rows)
    shape = len(samples.slices), len(SPLITS), classes
    cells = slices * len(SPLITS) + samples.split[rows[places]]
    cells = cells * classes + (0 if codes is None else codes[places])
    found = np.bincount(cells, minlength=shape[0] * shape[1] * classes)
    return np.asarray(found.reshape(shape), np.int64)


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
