"""Requests for a task of several classes: which images to ask about, from the chance of each class by itself."""

from typing import Final

import numpy as np

from curation.arrays import Bools, Floats, Int8s
from curation.catalog.presence import PRESENT, UNSEEN, presence_of_classes
from curation.catalog.slices import Slice, columns_of
from curation.catalog.tasks import Task
from curation.requests.candidates import Candidates

__all__ = [
    "CLASSES_IN_DOUBT", "chance_inside", "classes_in_doubt", "deciding_classes", "known_present", "known_states",
    "unseen_classes",
]  # fmt: skip

CLASSES_IN_DOUBT: Final = "classes in doubt: sum of min(p, 1 - p) ="


def chance_inside(chances: Floats, deciding: Bools) -> Floats:
    """The chance [N] that a sample has one of the classes that put it in a slice, if classes come independently.

    `chances` [N, C] are of each class by itself, `deciding` [N, C] the classes that alone make a member.

    >>> chance_inside(np.array([[0.5, 0.5]]), np.array([[True, True]])).tolist()
    [0.75]
    """
    return np.asarray(1 - np.where(deciding, 1 - chances, 1.0).prod(axis=1), np.float64)


def classes_in_doubt(chances: Floats, among: Bools) -> Floats:
    """How many statements [N] the run expects to get wrong at a threshold of one half, `among` these classes [N, C]."""
    return np.asarray((np.minimum(chances, 1 - chances) * among).sum(axis=1), np.float64)


def deciding_classes(candidates: Candidates, task: Task, slice_: Slice) -> Bools | None:
    """Which classes [N, C] would make a sample a member by themselves, and do not anyway; None where the slice does not
    read the task's label."""
    if ("label", task.name) not in columns_of(slice_.predicate):
        return None
    inside = candidates.inside_by_class(task, slice_)
    without = candidates.inside_without_class(task, slice_)
    return np.asarray(inside & ~without[:, None], np.bool_)


def known_present(candidates: Candidates, task: Task) -> Bools:
    """Which classes [C] a known label of these samples has."""
    return np.asarray((known_states(candidates, task) == PRESENT).any(axis=0), np.bool_)


def unseen_classes(candidates: Candidates, task: Task) -> Bools:
    """Which classes [N, C] of each sample no known label says anything about."""
    return np.asarray(known_states(candidates, task) == UNSEEN, np.bool_)


def known_states(candidates: Candidates, task: Task) -> Int8s:
    """The state of each class [N, C] by the known labels: 1 there, 0 not there, -1 unknown."""
    known = candidates.known(task.name)
    states = np.full((len(candidates.ids), len(task.classes)), UNSEEN, np.int8)
    states[np.searchsorted(candidates.ids, known["sample_id"].to_numpy())] = presence_of_classes(known, task)
    return states
