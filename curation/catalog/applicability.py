"""To which samples a task applies, by the predicate `applies` of its definition.

The predicate reads attributes and other tasks' labels. It is true, false, or NULL where a label that it needs is not
known: then the prediction of a run decides, and without a run the task may be requested.
"""

from dataclasses import dataclass

import numpy as np

from curation.arrays import Ints
from curation.catalog.predicate_tree import PREDICTED
from curation.catalog.slice_vetting import Frame, vet
from curation.catalog.slices import columns_of
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput

__all__ = ["Applicability", "applicability", "vet_applies"]


@dataclass(frozen=True, kw_only=True)
class Applicability:
    """Ids of samples, sorted: to which a task does not apply by the labels that are `known`, and to which it does not
    apply as `predicted`, because a label is not known and the prediction in its place makes the predicate false."""

    known: Ints
    predicted: Ints


def applicability(now: Snapshot, task: Task, *, predictions: str | None = None) -> Applicability:
    """The samples of this snapshot to which a task does not apply; none for a task without `applies`.

    `predictions` is the Parquet file of a run; None decides nothing by prediction.
    """
    none = np.empty(0, np.int64)
    if not task.applies:
        return Applicability(known=none, predicted=none)
    against = f"(NOT {task.applies})"
    known = now.members(against)
    if predictions is None:
        return Applicability(known=known, predicted=none)
    by_either = now.members(against, predictions=predictions, fill=True)
    return Applicability(known=known, predicted=np.setdiff1d(by_either, known))


def vet_applies(task: Task, frame: Frame) -> Task:
    """The task with the canonical text of its `applies`; BadInput when the predicate breaks a rule of slices, or reads
    the task itself or predictions."""
    if not task.applies:
        return task
    try:
        canonical = vet(task.applies, frame)
    except BadInput as error:
        raise BadInput(f"task {task.name}: applies: {str(error).removeprefix('slice ')}") from None
    for family, name in columns_of(canonical):
        if family in PREDICTED:
            raise BadInput(
                f"task {task.name}: applies reads {family}.{name}; read label.{name}, predicted where unknown"
            )
        if family != "attr" and name == task.name:
            raise BadInput(
                f"task {task.name}: applies reads {family}.{name}, which is the task itself; read attributes or labels "
                "of other tasks"
            )
    return task.model_copy(update={"applies": canonical})
