"""The built-in triggers as predicates in the language of slices, for one task of a run.

- flicker: the frames before and after in the group are predicted alike, and this one is not
- disagree: another run predicts another class
- contradiction: this task and another are predicted as classes that no training image has together, although chance
  would bring them together in ten bursts (`exclusive_classes`), and their probabilities sum to more than 1, which those
  of classes that exclude each other cannot
- against_label: the known label is another class than the run predicts, at a confidence of at least `SURE`

Numbers differ where they are far apart: beyond `FAR` robust standard deviations of all such differences. A number
flickers where it is far from the mean of its neighbours and these are not far from each other.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Final

import numpy as np
import pyarrow as pa

from curation.analysis.exclusive_classes import ExclusiveClasses, exclusive_classes
from curation.arrays import Floats, Ints
from curation.catalog.arrow_query import quoted
from curation.catalog.predicate_tree import quoted_name
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task

__all__ = ["AGAINST_LABEL", "BUILT_IN", "FAR", "SURE", "built_in"]

AGAINST_LABEL: Final = "against_label"
BUILT_IN: Final = {
    "flicker": "the frames before and after are predicted alike, this one is not",
    "disagree": "another run predicts otherwise",
    "contradiction": "no labels agree with what two heads predict together",
    AGAINST_LABEL: "the run predicts otherwise",
}
"""The triggers by name, and why their labels are requested."""

FAR: Final = 4.0
NORMAL: Final = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution."""
SURE: Final = 0.9
MOST_PAIRS: Final = 20
"""Pairs of classes in the predicate of one task: those that chance would bring together most often."""


def built_in(
    name: str, now: Snapshot, tasks: Sequence[Task], predictions: str, other: str = ""
) -> list[tuple[str, str]]:
    """A built-in trigger as (task, predicate) for each of `tasks`, which the run predicts, where it can fire.

    `predictions` and `other` are the Parquet files of the run and of the one that it is compared with.
    """
    pairs = exclusive_classes(now) if name == "contradiction" else []
    files = {"pred": predictions, "pred_before": predictions, "pred_after": predictions, "pred_other": other}
    made = []
    for task in tasks:
        if name == "contradiction":
            predicate = _contradiction(task, {part.name: part for part in tasks}, pairs)
        elif task.kind == "regression":
            predicate = _far_apart(now, task, _SIDES[name], files)
        else:
            predicate = _differs(name, task)
        if predicate:
            made.append((task.name, predicate))
    return made


_SIDES: Final[dict[str, tuple[str, ...]]] = {
    "flicker": ("pred_before", "pred_after"), "disagree": ("pred_other",), AGAINST_LABEL: ("label",),
}  # fmt: skip
"""What the prediction for an image is compared with."""


def _differs(name: str, task: Task) -> str:
    """The predicate of a task of classes; "" where it has none."""
    mine, *sides = (_value(family, task.name) for family in ("pred", *_SIDES[name]))
    if name == "flicker":
        return f"{sides[0]} = {sides[1]} AND {mine} <> {sides[0]}"
    if name == "disagree":
        return f"{mine} <> {sides[0]}"
    if task.kind == "multilabel":  # a label need not state every class
        return ""
    return f"{mine} <> {sides[0]} AND coalesce(pred.{quoted_name(task.name)}.confidence, 1) >= {SURE}"


def _far_apart(now: Snapshot, task: Task, sides: Sequence[str], files: Mapping[str, str]) -> str:
    """The predicate of a task of numbers: the prediction is far from what it is compared with, in flicker from the mean
    of two that are near each other; "" where all differences are the same."""
    columns = [now.column(family, task.name, predictions=files.get(family)) for family in ("pred", *sides)]
    ids = reduce(np.intersect1d, [column["sample_id"].to_numpy() for column in columns])
    mine, *given = (_numbers(column, ids) for column in columns)
    value, *names = (_value(family, task.name) for family in ("pred", *sides))
    if len(sides) == 1:
        return _beyond(f"{value} - {names[0]}", mine - given[0])
    near = _beyond(f"{names[0]} - {names[1]}", given[0] - given[1])
    far = _beyond(f"{value} - ({names[0]} + {names[1]}) / 2", mine - (given[0] + given[1]) / 2)
    return f"{far} AND NOT {near}" if far and near else far


def _beyond(text: str, differences: Floats) -> str:
    """The condition that a difference, written as `text`, is beyond `FAR` robust standard deviations of all [n], or
    mean deviations where more than half are equal; "" where all are."""
    if not len(differences):
        return ""
    middle = float(np.median(differences))
    deviations = np.abs(differences - middle)
    limit = FAR * (NORMAL * float(np.median(deviations)) or float(deviations.mean()))
    return f"(abs({text} - ({middle:.6g})) > {limit:.6g})" if limit > 0 else ""


def _numbers(column: pa.Table, ids: Ints) -> Floats:
    """The numbers of a column for these ids [n], which it has."""
    column = column.sort_by("sample_id")
    values = column["value"].combine_chunks()
    numbers = values.field("value") if pa.types.is_struct(values.type) else values
    where = np.searchsorted(column["sample_id"].to_numpy(), ids)
    return np.asarray(numbers.to_numpy(zero_copy_only=False)[where], np.float64)


def _contradiction(task: Task, tasks: Mapping[str, Task], pairs: Sequence[ExclusiveClasses]) -> str:
    """The predicate of a task of classes: any of its pairs with a class of another of `tasks`; "" without one."""
    terms = list[str]()
    for pair in pairs:
        if task.name in (pair.first, pair.second) and pair.first in tasks and pair.second in tasks:
            sides = [(tasks[pair.first], pair.first_code), (tasks[pair.second], pair.second_code)]
            sure = " + ".join(f"coalesce(pred.{quoted_name(side.name)}.confidence, 1)" for side, _ in sides)
            terms.append(" AND ".join([*(_is(side, code) for side, code in sides), f"{sure} > 1"]))
    return " OR ".join(f"({term})" for term in terms[:MOST_PAIRS])


def _is(task: Task, code: int) -> str:
    """The condition that a class of a task is predicted."""
    value = _value("pred", task.name)
    if task.kind == "binary":
        return value if code else f"NOT {value}"
    return f"{value} = {quoted(task.classes[code])}"


def _value(family: str, task: str) -> str:
    return f'"label".{quoted_name(task)}' if family == "label" else f"{family}.{quoted_name(task)}.value"
