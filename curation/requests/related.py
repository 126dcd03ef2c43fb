"""What other tasks say of a class without labels: by the predicate of its slice, or by combinations not seen so far."""

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from typing import Final

import numpy as np

from curation.arrays import Bools, Floats, Ints
from curation.catalog.slices import Slice, columns_of
from curation.catalog.tasks import Task
from curation.requests.candidates import Candidates
from curation.requests.strategies import one_of_each_group

__all__ = ["chance_by_other_tasks", "related_rows"]


MOST_QUERIES: Final = 400
"""A predicate is evaluated for at most so many combinations of classes of other tasks."""
MOST_TASKS: Final = 3
"""Combinations are of at most so many other tasks: those with the most classes seen."""


def related_rows(candidates: Candidates, task: Task, slice_: Slice, free: Bools) -> Iterator[tuple[int, str]]:
    """The `free` rows [N], the most promising first, each with a reason; none where no other task says anything."""
    chance = chance_by_other_tasks(candidates, task, slice_)
    if chance is not None:
        order = np.argsort(-np.where(free, chance, -1), kind="stable")
        for row in one_of_each_group(order, candidates.groups, ~candidates.open[task.name]).tolist():
            if free[row] and chance[row] > 0:
                yield row, f"chance to be {slice_.name} by other tasks = {chance[row]:.3f}"
        return
    yield from _unseen_combinations(candidates, task, free)


def chance_by_other_tasks(candidates: Candidates, task: Task, slice_: Slice) -> Floats | None:
    """The chance [N] to be in the slice by other tasks' labels, and by predictions where a label is not known.

    It is the sum, over the combinations of classes that make a member whatever the task's own label is, of the product
    of their chances. None where the predicate reads no other task of classes, or too many combinations.
    """
    read = {name for family, name in columns_of(slice_.predicate) if family == "label" and name != task.name}
    others = [candidates.tasks[name] for name in sorted(read) if name in candidates.tasks]
    if not others or len(others) < len(read) or any(not (other.classes and other.single) for other in others):
        return None
    if prod(len(other.classes) for other in others) > MOST_QUERIES:
        return None
    chances = [_class_chances(candidates, other) for other in others]
    found = np.zeros(len(candidates.ids))
    for codes in product(*(range(len(other.classes)) for other in others)):
        named = zip(others, codes, strict=True)
        assumed: dict[str, str | bool | float] = {other.name: _label(other, code) for other, code in named}
        inside = np.isin(candidates.ids, candidates.members(slice_, assumed))
        found += inside * np.prod([part[:, code] for part, code in zip(chances, codes, strict=True)], axis=0)
    return found if found.any() else None


def _class_chances(candidates: Candidates, task: Task) -> Floats:
    """Chances [N, C] of the classes of a task: 1 for the known class, else predicted, else 0."""
    known, sure = candidates.values(task)
    chances = candidates.probabilities(task)
    chances = np.zeros((len(known), len(task.classes))) if chances is None else chances.copy()
    certain = np.flatnonzero(sure == 1.0)
    chances[certain] = 0
    chances[certain, known[certain]] = 1
    return chances


def _label(task: Task, code: int) -> str | bool:
    return code == 1 if task.kind == "binary" else task.classes[code]


def _unseen_combinations(candidates: Candidates, task: Task, free: Bools) -> Iterator[tuple[int, str]]:
    """Rows whose combination of other tasks' values has the fewest labels of the task, one of each combination first.

    Where the tasks are related, a class without labels is among the combinations without labels.
    """
    values = {
        name: candidates.values(other)
        for name, other in candidates.tasks.items()
        if name != task.name and other.classes and other.single
    }
    told = _most_telling(values)
    if not told:
        return
    sure = np.prod([values[name][1] for name in told], axis=0)
    codes = np.stack([values[name][0] for name in told], axis=1)
    _, combination = np.unique(codes, axis=0, return_inverse=True)
    usable = sure > 0
    taken = ~candidates.open[task.name] & usable
    order = np.argsort(-sure, kind="stable")
    groups = np.asarray(combination.ravel(), dtype=object)
    for row in one_of_each_group(order[usable[order]], groups, taken).tolist():
        if free[row]:
            yield row, f"its combination of {', '.join(told)} has few labels: certainty = {sure[row]:.3f}"


def _most_telling(values: Mapping[str, tuple[Ints, Floats]]) -> list[str]:
    """The tasks with at least two classes seen, the most classes first, then the most samples."""
    seen = {name: len(np.unique(codes[sure > 0])) for name, (codes, sure) in values.items()}
    covered = {name: int((sure > 0).sum()) for name, (_, sure) in values.items()}
    telling = [name for name, classes in seen.items() if classes > 1]
    return sorted(telling, key=lambda name: (-seen[name], -covered[name], name))[:MOST_TASKS]
