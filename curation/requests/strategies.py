"""Strategies: which samples to request first. Each is a function of arrays; a row is an index of a training sample.

N samples, C classes. `open_` [N] marks the samples that a label may be requested for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.catalog.slices import Slice, columns_of
from curation.catalog.tasks import Task
from curation.images.embeddings import farthest_first
from curation.requests.candidates import Candidates

__all__ = [
    "Ranking",
    "at_random",
    "best_first",
    "most_likely_rare",
    "one_of_each_group",
    "rank",
    "smallest_margin",
    "unlike_labelled",
]

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

UNLIKE = "unlike everything labelled"


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Open rows, best first, with the arm of their requests; `scores` [N] are None where the strategy has none."""

    rows: Ids
    arm: str
    why: str
    scores: Floats | None = None

    def reason(self, row: int) -> str:
        """Why this row is requested, with its score."""
        return self.why if self.scores is None else f"{self.why} {self.scores[row]:.3f}"


def rank(candidates: Candidates, task: Task, slice_: Slice | None, count: int, seed: Sequence[int]) -> Ranking:
    """At least `count` open rows for a slice of a task (None: the whole task), if there are so many, best first.

    The most likely members of a slice that the task's label decides; the smallest margin inside any other slice. The
    farthest from all labelled samples where the run predicts no classes, or where no label is known yet of a class
    that makes a member.
    """
    open_, chances = candidates.open[task.name], candidates.probabilities(task)
    if chances is None:
        return Ranking(rows=unlike_labelled(candidates, task, slice_, count, seed), arm="diverse", why=UNLIKE)
    if slice_ is None or ("label", task.name) not in columns_of(slice_.predicate):
        inside = np.ones(len(open_), np.bool_) if slice_ is None else candidates.inside(slice_)
        scores, why = smallest_margin(chances, inside), "margin to the next class is small: 1 - margin ="
    else:
        inside = candidates.inside_by_class(task, slice_)
        known = np.unique(candidates.known(task.name)["code"].to_numpy())
        if not inside[:, known].any():
            why = f"no label yet that could make a {slice_.name}: {UNLIKE}"
            return Ranking(rows=unlike_labelled(candidates, task, slice_, count, seed), arm="diverse", why=why)
        scores, why = most_likely_rare(chances, inside), f"chance to be {slice_.name} ="
    return Ranking(rows=best_first(scores, open_, candidates.groups), arm="mined", why=why, scores=scores)


def at_random(open_: Bools, count: int, seed: Sequence[int]) -> tuple[Ids, float]:
    """`count` open rows (fewer where fewer are open) drawn uniformly, ascending, and the propensity of each."""
    rows = np.flatnonzero(open_)
    count = min(count, len(rows))
    drawn = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
    return rows[drawn], count / len(rows)


def most_likely_rare(chances: Floats, inside: Bools) -> Floats:
    """The chance [N] to be in a slice: the sum of the `chances` [N, C] of the classes that put a sample `inside`."""
    return np.asarray((chances * inside).sum(axis=1), np.float64)


def smallest_margin(chances: Floats, inside: Bools) -> Floats:
    """1 - (largest - second largest of the `chances` [N, C]); 0 for samples that are not `inside` [N]."""
    top = np.sort(chances, axis=1)
    return np.asarray((1 - top[:, -1] + top[:, -2]) * inside, np.float64)


def unlike_labelled(candidates: Candidates, task: Task, slice_: Slice | None, count: int, seed: Sequence[int]) -> Ids:
    """Open rows that could be in the slice, farthest first from all labelled and requested samples of the task.

    Without embeddings: all such rows, in an order drawn from `seed`.
    """
    open_ = candidates.open[task.name]
    possible = open_ if slice_ is None else open_ & candidates.could_be_inside(task, slice_)
    if not candidates.has_vectors:
        return np.random.default_rng(seed).permutation(np.flatnonzero(possible))
    rows = np.flatnonzero(possible | ~open_)
    found = farthest_first(candidates.vectors(rows), np.flatnonzero(~open_[rows]), count)
    return np.asarray(rows[found], np.int64)


def best_first(scores: Floats, open_: Bools, groups: npt.NDArray[np.object_]) -> Ids:
    """Open rows with a score [N] above 0, the highest first, one of each group before the second of any."""
    order = np.argsort(-np.where(open_, scores, -1), kind="stable")
    order = one_of_each_group(order, groups, ~open_)
    return order[open_[order] & (scores[order] > 0)]


def one_of_each_group(order: Ids, groups: npt.NDArray[np.object_], taken: Bools) -> Ids:
    """`order` with the first row of each group in front, then the second of each, and so on.

    Rows that are `taken` [N] (labelled or requested) count first in their groups: such a group has had its turn.
    """
    seen: dict[object, int] = {}
    turn = np.empty(len(order), np.int64)
    order = np.concatenate([order[taken[order]], order[~taken[order]]])
    for i, row in enumerate(order):
        turn[i] = seen[groups[row]] = seen.get(groups[row], -1) + 1
    return np.asarray(order[np.argsort(turn, kind="stable")], np.int64)
