"""Conditions that a slice may be made of: values and ranges of attributes, labels of other tasks, and predictions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.analysis.missingness import aligned_attribute
from curation.arrays import Bools, Ints
from curation.catalog.predicate_tree import quoted_name
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from training.judging.drift import UNSEEN

__all__ = ["KINDS", "Literal", "literals_of"]

KINDS = ("binary", "categorical", "regression")
"""Kinds of tasks with one value for each image."""
VALUES = 20
"""At most so many values of a column, the most frequent ones."""
CUTS = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Numbers are cut at these quantiles."""


@dataclass(frozen=True, kw_only=True)
class Literal:
    """One condition: its text in the language of slices, and the images [n] for which it holds. Literals of one
    `column` exclude each other or imply each other."""

    text: str
    column: str
    holds: Bools


def literals_of(now: Snapshot, ids: Ints, task: str, predictions: pa.Table, keys: pa.Array) -> list[Literal]:
    """The literals over the samples `ids` [n] with these `keys` [n], for slices of errors of `task`.

    Attributes, known labels of other tasks, and the `predictions` of a run for all tasks (its predictions file). The
    task's own label is left out: a class is no slice that can be told before it is labelled. Values that hold for no
    image, or for all, are left out.
    """
    found = list[Literal]()
    samples = pa.array(ids)
    for name, kind in now.attributes().items():
        if name not in UNSEEN and kind != "time":
            found += _of_column(f"attr.{quoted_name(name)}", aligned_attribute(now.attribute(name), samples))
    for name, other in now.tasks().items():
        if other.kind not in KINDS:
            continue
        if name != task:
            found += _of_column(f"label.{quoted_name(name)}", aligned_attribute(now.column("label", name), samples))
        found += _of_column(f"pred.{quoted_name(name)}.value", _predicted(other, predictions, keys))
    return [literal for literal in found if 0 < literal.holds.sum() < len(ids)]


def _predicted(task: Task, predictions: pa.Table, keys: pa.Array) -> pa.ChunkedArray:
    """What the run predicts for each of `keys` [n]; null where it predicts nothing."""
    mine = predictions.filter(pc.equal(predictions["task"], task.name))
    where = pc.index_in(keys, value_set=mine["key"].combine_chunks())
    if task.kind == "regression":
        return mine["number"].take(where)
    names = [name == "true" for name in task.classes] if task.kind == "binary" else list(task.classes)
    return pa.chunked_array([pa.array(names).take(mine["code"].take(where).combine_chunks())])


def _of_column(name: str, values: pa.ChunkedArray) -> Iterator[Literal]:
    if pa.types.is_boolean(values.type):
        yield Literal(text=name, column=name, holds=_mask(values))
        yield Literal(text=f"NOT {name}", column=name, holds=_mask(pc.invert(values)))
    elif pa.types.is_string(values.type):
        counted = pc.value_counts(values.drop_null().combine_chunks())
        most = sorted(counted.to_pylist(), key=lambda row: (-row["counts"], row["values"]))[:VALUES]
        for value in (row["values"] for row in most):
            escaped = value.replace("'", "''")
            yield Literal(text=f"{name} = '{escaped}'", column=name, holds=_mask(pc.equal(values, value)))
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        yield from _of_numbers(name, values)


def _of_numbers(name: str, values: pa.ChunkedArray) -> Iterator[Literal]:
    numbers = np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(), np.float64)
    known = numbers[np.isfinite(numbers)]
    cuts = np.quantile(known, CUTS, method="inverted_cdf") if len(known) else known
    for written in dict.fromkeys(_written(cut, whole=pa.types.is_integer(values.type)) for cut in cuts.tolist()):
        cut = float(written)
        yield Literal(text=f"{name} < {written}", column=f"{name} <", holds=np.asarray(numbers < cut, np.bool_))
        yield Literal(text=f"{name} >= {written}", column=f"{name} >=", holds=np.asarray(numbers >= cut, np.bool_))


def _written(cut: float, *, whole: bool) -> str:
    """A cut in SQL; numbers that are not whole with four digits."""
    return str(int(cut)) if whole else repr(float(f"{cut:.4g}"))


def _mask(values: pa.ChunkedArray) -> Bools:
    return np.asarray(pc.fill_null(values, False).to_numpy(), np.bool_)
