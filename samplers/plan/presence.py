"""Which classes an image has, for the multilabel tasks of a plan: there, not there, or nobody looked."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from curation.arrays import Floats, Int8s, Int16s, Ints
from curation.catalog.presence import PRESENT, UNSEEN, presence_of_lists
from curation.catalog.tasks import Task

__all__ = ["Presence", "class_spans", "presence_entropy"]


def class_spans(tasks: Sequence[Task]) -> dict[int, slice]:
    """The columns of each multilabel task, by its code, among the M classes of all multilabel tasks in their order.

    >>> signs = Task(name="signs", kind="multilabel", classes=("stop", "yield"), owner="ada")
    >>> class_spans([signs, signs])
    {0: slice(0, 2, None), 1: slice(2, 4, None)}
    """
    found, first = dict[int, slice](), 0
    for code, task in enumerate(tasks):
        if task.kind == "multilabel":
            found[code] = slice(first, first + len(task.classes))
            first = found[code].stop
    return found


def presence_entropy(states: Int8s, weights: Floats) -> float:
    """The loss of the best constant in nats: the entropy of each class's presence where it is known, summed.

    `states` [n, C] are 1, 0 or -1 (unknown); `weights` [n] sum to 1. A class that is known in a part of the weight
    counts that part, as in the loss, where an unknown class adds nothing.

    >>> round(presence_entropy(np.array([[1, -1], [0, 1]], np.int8), np.array([0.5, 0.5])), 4)
    0.6931
    """
    there, known = weights @ (states == PRESENT), weights @ (states != UNSEEN)
    share = np.divide(there, known, out=np.zeros_like(there), where=known > 0)
    inside = (share > 0) & (share < 1)
    mass, p = known[inside], share[inside]
    return float(-(mass * (p * np.log(p) + (1 - p) * np.log1p(-p))).sum())


class Presence:
    """The states of classes of a plan's label entries; `lists` has the columns `codes` and, where needed, `looked`."""

    def __init__(self, tasks: Sequence[Task], lists: pa.Table) -> None:
        self._spans = class_spans(tasks)
        self.classes = sum(span.stop - span.start for span in self._spans.values())
        """M, the classes of all multilabel tasks."""
        self._columns = {
            name: lists[name].combine_chunks() for name in ("codes", "looked") if name in lists.column_names
        }

    def of(self, rows: Ints, task: Int16s, entry: Ints, size: int) -> Int8s:
        """States [size, M] from E entries: their rows [E] of the result, tasks [E] and places [E] among the labels."""
        found = np.full((size, self.classes), UNSEEN, np.int8)
        for code, span in self._spans.items():
            mine = np.flatnonzero(task == code)
            if len(mine):
                taken = {name: column.take(pa.array(entry[mine])) for name, column in self._columns.items()}
                states = presence_of_lists(taken["codes"], taken.get("looked"), span.stop - span.start)
                found[rows[mine], span] = states
        return found
