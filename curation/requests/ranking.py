"""Which samples to request for one slice of a task, or for a whole task: the strategy follows what is known."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pyarrow.compute as pc

from curation.arrays import Bools, Floats, Ints
from curation.catalog.slices import Slice, columns_of
from curation.catalog.tasks import Task
from curation.images.embeddings import farthest_first
from curation.requests.box_scores import best_scores, rarest_class
from curation.requests.candidates import Candidates
from curation.requests.class_lists import (
    CLASSES_IN_DOUBT,
    chance_inside,
    classes_in_doubt,
    deciding_classes,
    known_present,
    unseen_classes,
)
from curation.requests.cold_start import cold_start
from curation.requests.strategies import Pick, best_first, entropy, likely_share, most_likely_rare, smallest_margin

__all__ = ["Strategy", "rank"]


Strategy = Literal["mixed", "margin", "entropy"]

RARE_PART = 1 / 3
"""The part of the images requested for a task of boxes that are asked for its rarest class."""

UNLIKE = "unlike everything labelled"
DOUBT = "boxes in doubt: sum of min(score, 1 - score) ="
MARGIN = "margin to the next class is small: 1 - margin ="


def rank(
    candidates: Candidates,
    task: Task,
    slice_: Slice | None,
    count: int,
    seed: Sequence[int],
    *,
    strategy: Strategy = "mixed",
) -> list[Pick]:
    """`count` open rows for a slice of a task (None: the whole task), or as many as there are, best first.

    - A slice that no known label of the task makes: the mix of `cold_start`.
    - A slice that the task's label decides: its likeliest members, in a share that follows the last batch's hit rate;
      the others by the smallest margin.
    - Any other slice, and a whole task: the smallest margin inside it.
    - A task of several classes: the same, with the chance of each class by itself; in place of the margin, the most
      classes in doubt.
    - A task of boxes: a third by the highest score of its rarest class, the others with the most boxes in doubt.
    - Where the run predicts no classes of the task: the farthest from all labelled and requested samples.
    """
    if task.kind == "multilabel" and (several := _by_class(candidates, task, slice_, count, seed)) is not None:
        return several
    chances = candidates.probabilities(task)
    decided = slice_ is not None and ("label", task.name) in columns_of(slice_.predicate)
    if decided and slice_ is not None and task.kind in ("binary", "categorical"):
        inside = candidates.inside_by_class(task, slice_)
        known = np.unique(candidates.known(task.name)["code"].to_numpy())
        by_label = inside & ~inside.all(axis=1, keepdims=True)  # the others are members whatever the label
        if not by_label[:, known].any():
            return cold_start(candidates, task, slice_, count, seed)
        if chances is not None:
            return _likely_and_margin(candidates, task, slice_, chances, inside, count)
    within = np.ones(len(candidates.ids), np.bool_) if slice_ is None else candidates.inside(slice_)
    if (doubts := candidates.doubts(task)) is not None:
        return _boxes(candidates, task, doubts, within, count)
    if chances is None:
        rows = _unlike_labelled(candidates, task, slice_, count, seed)[:count]
        return [Pick(row=row, arm="diverse", reason=UNLIKE) for row in rows.tolist()]
    if strategy == "entropy":
        return list(_picks(candidates, task, entropy(chances), "the prediction is unsure: entropy =", count))
    return list(_picks(candidates, task, smallest_margin(chances, within), MARGIN, count))


def _likely_and_margin(
    candidates: Candidates, task: Task, slice_: Slice, chances: Floats, inside: Bools, count: int
) -> list[Pick]:
    """The likeliest members of the slice, then rows of the smallest margin; one of each group comes first in both."""
    likely = most_likely_rare(chances, inside)
    first = round(count * likely_share(*_last_batch(candidates, task, slice_)))
    picks = list(_picks(candidates, task, likely, f"chance to be {slice_.name} =", first))
    taken = [pick.row for pick in picks]
    could: Bools = np.asarray(inside.any(axis=1), np.bool_)
    picks += _picks(candidates, task, smallest_margin(chances, could), MARGIN, count - len(picks), taken=taken)
    return picks


def _by_class(
    candidates: Candidates, task: Task, slice_: Slice | None, count: int, seed: Sequence[int]
) -> list[Pick] | None:
    """The rows of `rank` for a multilabel task; None where the run does not predict it."""
    deciding = None if slice_ is None else deciding_classes(candidates, task, slice_)
    if slice_ is not None and deciding is not None and not deciding[:, known_present(candidates, task)].any():
        return cold_start(candidates, task, slice_, count, seed)
    chances = candidates.class_chances(task)
    if chances is None:
        return None
    unseen = unseen_classes(candidates, task)
    if slice_ is None or deciding is None:
        among = unseen if slice_ is None else unseen & candidates.inside(slice_)[:, None]
        return list(_picks(candidates, task, classes_in_doubt(chances, among), CLASSES_IN_DOUBT, count))
    deciding = deciding & unseen
    first = round(count * likely_share(*_last_batch(candidates, task, slice_)))
    likely = chance_inside(chances, deciding)
    picks = list(_picks(candidates, task, likely, f"chance to be {slice_.name} =", first))
    taken = [pick.row for pick in picks]
    doubt = classes_in_doubt(chances, deciding)
    return picks + list(_picks(candidates, task, doubt, CLASSES_IN_DOUBT, count - len(picks), taken=taken))


def _boxes(candidates: Candidates, task: Task, doubts: Floats, within: Bools, count: int) -> list[Pick]:
    """Images with a likely box of the rarest class, for `RARE_PART` of the rows where there are several classes; then
    those with the most boxes in doubt."""
    picks: list[Pick] = []
    if len(task.classes) > 1:
        rarest = rarest_class(candidates, task)
        likely = best_scores(candidates, task)[:, rarest] * within
        first = round(count * RARE_PART)
        picks = list(_picks(candidates, task, likely, f"score of {task.classes[rarest]} =", first))
    taken = [pick.row for pick in picks]
    return picks + list(_picks(candidates, task, doubts * within, DOUBT, count - len(picks), taken=taken))


def _last_batch(candidates: Candidates, task: Task, slice_: Slice) -> tuple[int, int]:
    """Hits and number of the answered requests that were mined for a slice with the newest run that mined for it."""
    asked = candidates.now.requests("answered")
    mine = pc.and_(pc.equal(asked["task"], task.name), pc.equal(asked["slice"], slice_.name))
    asked = asked.filter(pc.and_(mine, pc.equal(asked["arm"], "mined"))).sort_by("request_id")
    if not len(asked):
        return 0, 0
    batch = asked.filter(pc.equal(asked["run"], asked["run"][-1]))
    hits = np.isin(batch["sample_id"].to_numpy(), candidates.members(slice_)).sum()
    return int(hits), len(batch)


def _picks(
    candidates: Candidates, task: Task, scores: Floats, why: str, count: int, taken: Sequence[int] = ()
) -> Iterator[Pick]:
    """The open rows of the highest scores [N] above 0, without those that are `taken`."""
    open_ = candidates.open[task.name].copy()
    open_[list(taken)] = False
    for row in best_first(scores, open_, candidates.groups)[:count].tolist():
        yield Pick(row=row, arm="mined", reason=f"{why} {scores[row]:.3f}")


def _unlike_labelled(candidates: Candidates, task: Task, slice_: Slice | None, count: int, seed: Sequence[int]) -> Ints:
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
