"""Which classes of a task an image has: there, not there, or nobody looked."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Int8s, Ints
from curation.catalog.tasks import Task

__all__ = ["ABSENT", "PRESENT", "UNSEEN", "presence_of_classes", "presence_of_labels", "presence_of_lists"]

UNSEEN, ABSENT, PRESENT = -1, 0, 1
"""A class of an image: nobody looked (it adds exactly 0 to every loss and figure), not there, there."""


def presence_of_lists(present: pa.Array, looked: pa.Array | None, classes: int) -> Int8s:
    """The state [n, C] of every class from n lists of present class codes and, unless all were, of those looked at.

    A null list in `looked` means that all classes were looked at; a class that is present was looked at.

    >>> presence_of_lists(pa.array([[0], []]), pa.array([[0, 2], None]), 3).tolist()
    [[1, -1, 0], [0, 0, 0]]
    """
    found = np.full((len(present), classes), ABSENT, np.int8)
    if looked is not None and looked.null_count < len(looked):
        found[np.flatnonzero(looked.is_valid())] = UNSEEN
        found[_places(looked)] = ABSENT
    found[_places(present)] = PRESENT
    return found


def presence_of_labels(labels: pa.Table, classes: int) -> Int8s:
    """The states [n, C] of the classes in n known labels of `Snapshot.labels`."""
    return presence_of_lists(labels["codes"].combine_chunks(), labels["looked"].combine_chunks(), classes)


def presence_of_classes(labels: pa.Table, task: Task) -> Int8s:
    """The states [n, C] of the classes in n known labels of a task of classes.

    Where an image has one class, all others are absent.
    """
    if task.kind == "multilabel":
        return presence_of_labels(labels, len(task.classes))
    return np.asarray(labels["code"].to_numpy()[:, None] == np.arange(len(task.classes)), np.int8)


def _places(lists: pa.Array) -> tuple[Ints, Ints]:
    """Row and value of every element of n lists."""
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(lists)), counts), np.asarray(lists.flatten(), np.int64)
