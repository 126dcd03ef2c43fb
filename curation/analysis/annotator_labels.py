"""The labels of each annotator for one task, as columns: a million labels compare in a second."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools, Floats, Ints
from curation.catalog.schema import KNOWN
from curation.catalog.tasks import Task

__all__ = ["AnnotatorLabels", "distinct_sets"]

Numbers = TypeVar("Numbers", Ints, Floats)


@dataclass(frozen=True, kw_only=True)
class AnnotatorLabels:
    """The n known labels of all annotators, ordered by sample; unsure and inapplicable labels are left out, and those
    of several classes that were not all looked for.

    `code` [n] is equal where two labels agree: a class, or a set of classes. `number` [n] is a number, or the number of
    classes or boxes. `cell`, `column` and `value` [m] are the sparse values of the labels: the row of the label (0 to
    n - 1), the class (0 for a number), and 1, the number minus the mean of all, or the number of boxes.
    """

    task: Task
    sample: Ints
    annotator: Ints
    code: Ints
    number: Floats
    cell: Ints
    column: Ints
    value: Floats

    @classmethod
    def of(cls, task: Task, statements: pa.Table, annotator: Ints) -> "AnnotatorLabels":
        """From a table of `Snapshot.statements`; `annotator` is the number of the annotator of each row."""
        known = pc.equal(statements["state"], KNOWN)
        if task.kind == "multilabel":
            known = pc.and_(known, pc.is_null(statements["looked"]))
        rows, annotator = statements.filter(known), annotator[np.asarray(known, np.bool_)]
        sample = np.asarray(rows["sample_id"].to_numpy(), np.int64)
        return cls(task=task, sample=sample, annotator=annotator, **_columns(task, rows))

    @property
    def several(self) -> bool:
        """Whether a label may have several classes."""
        return self.task.kind in ("multilabel", "detection")

    @cached_property
    def unit(self) -> Ints:
        """The sample of each label [n], numbered from 0 without gaps."""
        return np.cumsum(np.diff(self.sample, prepend=self.sample[:1]) != 0)

    def where(self, chosen: Bools) -> "AnnotatorLabels":
        """Only the `chosen` labels."""
        row, kept = np.cumsum(chosen) - 1, chosen[self.cell]
        return replace(
            self, sample=self.sample[chosen], annotator=self.annotator[chosen], code=self.code[chosen],
            number=self.number[chosen], cell=row[self.cell[kept]], column=self.column[kept], value=self.value[kept],
        )  # fmt: skip

    def shared(self) -> "AnnotatorLabels":
        """Only the labels of samples that two or more annotators labelled."""
        unit = self.unit
        return self.where(np.bincount(unit)[unit] >= 2)

    def pairs(self) -> Iterator[tuple[Ints, Ints]]:
        """Rows of every two labels of one sample, as two arrays: neighbours first, then rows further apart."""
        for lag in range(1, len(self.sample)):
            one = np.flatnonzero(self.sample[lag:] == self.sample[:-lag])
            if not len(one):
                return
            yield one, one + lag

    def same(self, one: Ints, other: Ints) -> Bools:
        """Whether the labels in rows `one` and `other` agree, pair by pair."""
        if self.task.kind == "regression":
            return np.asarray(np.abs(self.number[one] - self.number[other]) <= self.task.tolerance, np.bool_)
        return np.asarray(self.code[one] == self.code[other], np.bool_)

    def votes(self) -> tuple[Ints, Ints, Ints]:
        """For each label [n]: the other labels of its sample, those alike, and those of the commonest rival."""
        unit = self.unit
        width = int(self.code.max(initial=0)) + 1
        cells, run, count = np.unique(unit * width + self.code, return_inverse=True, return_counts=True)
        order = np.lexsort((count, cells // width))
        last = np.flatnonzero(np.diff(cells[order] // width, append=-1))
        before = np.maximum(last - 1, 0)
        second = np.where((cells[order] // width)[before] == (cells[order] // width)[last], count[order][before], 0)
        second[last == 0] = 0
        most = np.where(run == order[last][unit], second[unit], count[order][last][unit])
        return np.bincount(unit)[unit] - 1, count[run] - 1, most

    def consensus(self) -> "AnnotatorLabels":
        """For each sample one label that more than half agree with, if there is one; for numbers the median."""
        others, alike, _ = self.votes()
        order = (
            np.lexsort((self.number, self.sample)) if self.task.kind == "regression" else np.arange(len(self.sample))
        )
        agreed = 2 * (alike[order] + 1) > others[order] + 1
        order, unit = order[agreed], self.unit[agreed]
        first = np.flatnonzero(np.diff(unit, prepend=-1))
        length = np.diff(first, append=len(unit))
        chosen = np.zeros(len(self.sample), np.bool_)
        chosen[order[first + (length - 1) // 2]] = True
        return self.where(chosen)

    def paired_with(self, consensus: "AnnotatorLabels") -> "AnnotatorLabels":
        """Each label and the consensus on its sample, as the two labels of a new sample."""
        left = self.where(np.isin(self.sample, consensus.sample))
        right = np.searchsorted(consensus.sample, left.sample)
        first, end = (np.searchsorted(consensus.cell, right, side) for side in ("left", "right"))
        taken = _ranges(first, end - first)
        owner = np.repeat(np.arange(len(right)), end - first)
        return replace(
            self, sample=np.repeat(np.arange(len(right)), 2),
            annotator=_alternating(left.annotator, consensus.annotator[right]),
            code=_alternating(left.code, consensus.code[right]),
            number=_alternating(left.number, consensus.number[right]),
            cell=np.concatenate([2 * left.cell, 2 * owner + 1]),
            column=np.concatenate([left.column, consensus.column[taken]]),
            value=np.concatenate([left.value, consensus.value[taken]]),
        )  # fmt: skip


def distinct_sets(row: Ints, code: Ints, rows: int) -> Ints:
    """For each row (0 to `rows` - 1) the number of its set of codes, from the `row` [m], sorted, and the `code` [m] of
    each entry: rows with the same codes in the same order have the same number, counted from 0 without gaps.

    >>> distinct_sets(np.array([0, 0, 1, 2, 2]), np.array([3, 7, 3, 3, 7]), 4).tolist()
    [0, 1, 0, 2]
    """
    starts = pa.array(np.searchsorted(row, np.arange(rows + 1)).astype(np.int32))
    lists = pa.ListArray.from_arrays(starts, pa.array(code).cast(pa.string()))
    return np.asarray(pc.binary_join(lists, ",").dictionary_encode().indices.to_numpy(), np.int64)


def _columns(task: Task, rows: pa.Table) -> dict[str, Any]:
    """The columns of `AnnotatorLabels` that depend on the kind of task."""
    every, zeros = np.arange(len(rows)), np.zeros(len(rows), np.int64)
    if task.kind == "regression":
        number = np.asarray(rows["number"].to_numpy(), np.float64)
        centred = number - (number.mean() if len(number) else 0.0)  # squares of large numbers lose digits
        return {"code": zeros, "number": number, "cell": every, "column": zeros, "value": centred}
    if task.kind in ("binary", "categorical"):
        code = np.asarray(rows["code"].to_numpy(), np.int64)
        return {"code": code, "number": zeros + 0.0, "cell": every, "column": code, "value": zeros + 1.0}
    cell, column, value = _occurrences(rows["codes" if task.kind == "multilabel" else "boxes"], len(task.classes))
    held = np.bincount(cell, value, len(rows))
    sets = distinct_sets(cell, column, len(rows))
    return {"code": sets, "number": held, "cell": cell, "column": column, "value": value}


def _occurrences(lists: pa.ChunkedArray, classes: int) -> tuple[Ints, Ints, Floats]:
    """Row, class and number of occurrences, from lists of codes or of boxes."""
    held = lists.combine_chunks()
    row = np.asarray(pc.list_parent_indices(held).to_numpy(zero_copy_only=False), np.int64)
    flat = pc.list_flatten(held)
    code = pc.struct_field(flat, "code") if pa.types.is_struct(flat.type) else flat
    cells = row * classes + np.asarray(code.to_numpy(zero_copy_only=False), np.int64)
    cells, count = np.unique(cells, return_counts=True)
    return cells // classes, cells % classes, count.astype(np.float64)


def _ranges(first: Ints, length: Ints) -> Ints:
    """The numbers of each range, one range after the other."""
    return np.asarray(np.repeat(first - np.cumsum(length) + length, length) + np.arange(int(length.sum())), np.int64)


def _alternating(one: Numbers, other: Numbers) -> Numbers:
    return np.stack([one, other], axis=1).ravel()
