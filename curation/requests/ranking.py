"""Which samples to request for one slice of a task, or for a whole task: the strategy follows what is known."""

from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np
import pyarrow.compute as pc

from curation.arrays import Bools, Floats, Ints
from curation.catalog.slices import Slice, columns_of
from curation.catalog.tasks import Task
from curation.images.embeddings import farthest_first
from curation.requests.box_scores import expected_wrong, fewest_first, values_of_boxes
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
from curation.requests.expected_gain import chosen_ridge, most_expected_gain
from curation.requests.gradients import MOST_ROWS
from curation.requests.picks import MARGIN, best_picks
from curation.requests.published import PUBLISHED, picks_of_strategy
from curation.requests.strategies import Pick, likely_share, most_likely_rare, smallest_margin, some_of

__all__ = ["STRATEGIES", "Strategy", "rank"]


Strategy = Literal["mined", "random", "margin", "entropy", "badge", "typiclust", "direct"]
STRATEGIES: Final[tuple[Strategy, ...]] = get_args(Strategy)
"""What chooses the requests: what is known (the default), chance, or one published strategy."""

RARE_PART = 1 / 3
"""The part of the images requested for a task of boxes that go to classes and values of which few boxes are known."""

UNLIKE = "unlike everything labelled"
DOUBT = "boxes in doubt: sum of min(score, 1 - score) ="
DOUBTS = "boxes and their attributes in doubt: decisions expected to be wrong ="
GAIN = "expected to lower the error of all predictions most: share of their variance ="


def rank(
    candidates: Candidates,
    task: Task,
    slice_: Slice | None,
    count: int,
    seed: Sequence[int],
    *,
    strategy: Strategy = "mined",
) -> list[Pick]:
    """`count` open rows for a slice of a task (None: the whole task), or as many as there are, best first.

    - A slice that no known label of the task makes: the mix of `cold_start`.
    - A slice that the task's label decides: its likeliest members, in a share that follows the last batch's hit rate;
      the others by the smallest margin.
    - Any other slice, and a whole task: the smallest margin inside it.
    - A task of several classes: the same, with the chance of each class by itself; in place of the margin, the most
      classes in doubt.
    - A task of boxes: a third for its classes and the values of attributes of which the fewest boxes are known, by
      score; the others with the most decisions in doubt.
    - A task of numbers: the largest expected gain.
    - Where there is nothing of this: the farthest from all labelled and requested samples.

    A published `strategy` ranks whole tasks that it can rank; others are ranked as by default.
    """
    if strategy in PUBLISHED and (found := picks_of_strategy(candidates, task, count, seed, strategy)) is not None:
        return found
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
    if (doubts := expected_wrong(candidates, task)) is not None:
        return _boxes(candidates, task, doubts, within, count)
    if task.kind == "regression" and candidates.has_vectors:
        return _by_gain(candidates, task, slice_, count, seed)
    if chances is None:
        rows = _unlike_labelled(candidates, task, slice_, count, seed)[:count]
        return [Pick(row=row, arm="diverse", reason=UNLIKE) for row in rows.tolist()]
    return list(best_picks(candidates, task, smallest_margin(chances, within), MARGIN, count))


def _likely_and_margin(
    candidates: Candidates, task: Task, slice_: Slice, chances: Floats, inside: Bools, count: int
) -> list[Pick]:
    """The likeliest members of the slice, then rows of the smallest margin; one of each group comes first in both."""
    likely = most_likely_rare(chances, inside)
    first = round(count * likely_share(*_last_batch(candidates, task, slice_)))
    picks = list(best_picks(candidates, task, likely, f"chance to be {slice_.name} =", first))
    taken = [pick.row for pick in picks]
    could: Bools = np.asarray(inside.any(axis=1), np.bool_)
    picks += best_picks(candidates, task, smallest_margin(chances, could), MARGIN, count - len(picks), taken=taken)
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
        return list(best_picks(candidates, task, classes_in_doubt(chances, among), CLASSES_IN_DOUBT, count))
    deciding = deciding & unseen
    first = round(count * likely_share(*_last_batch(candidates, task, slice_)))
    likely = chance_inside(chances, deciding)
    picks = list(best_picks(candidates, task, likely, f"chance to be {slice_.name} =", first))
    taken = [pick.row for pick in picks]
    doubt = classes_in_doubt(chances, deciding)
    return picks + list(best_picks(candidates, task, doubt, CLASSES_IN_DOUBT, count - len(picks), taken=taken))


def _boxes(candidates: Candidates, task: Task, doubts: Floats, within: Bools, count: int) -> list[Pick]:
    """`RARE_PART` of the rows for classes and values of attributes of which few boxes are known: equal parts for the
    classes, where there are several, and for each attribute. Then the rows with the most decisions in doubt."""
    picks, open_ = list[Pick](), candidates.open[task.name] & within
    values, first = values_of_boxes(candidates, task), round(count * RARE_PART)
    for number, each in enumerate(values):
        share = first * (number + 1) // len(values) - first * number // len(values)
        picks += fewest_first(each, open_, candidates.groups, share, [pick.row for pick in picks])
    why = DOUBTS if any(not isinstance(says, str) for _, says in task.attributes) else DOUBT
    taken = [pick.row for pick in picks]
    return picks + list(best_picks(candidates, task, doubts * within, why, count - len(picks), taken=taken))


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


def _unlike_labelled(candidates: Candidates, task: Task, slice_: Slice | None, count: int, seed: Sequence[int]) -> Ints:
    """Open rows that could be in the slice, farthest first from all labelled and requested samples of the task.

    Without embeddings: such rows in an order drawn from `seed`.
    """
    rows, taken = _possible(candidates, task, slice_, seed)
    if not candidates.has_vectors:
        return np.random.default_rng(seed).permutation(rows)
    together = np.sort(np.concatenate([rows, taken]))
    vectors = candidates.vectors(together)
    found = farthest_first(vectors, np.flatnonzero(np.isin(together, taken)), count)
    return np.asarray(together[found], np.int64)


def _by_gain(candidates: Candidates, task: Task, slice_: Slice | None, count: int, seed: Sequence[int]) -> list[Pick]:
    """Open rows that could be in the slice, by how much their labels lower the expected error of all of them."""
    rows, taken = _possible(candidates, task, slice_, seed)
    known = candidates.known(task.name)
    labelled = np.searchsorted(candidates.ids, known["sample_id"].to_numpy())
    groups = candidates.groups
    ridge = chosen_ridge(candidates.principal_of(labelled), known["number"].to_numpy(), groups[labelled])
    together = np.concatenate([rows, taken])
    open_ = np.arange(len(together)) < len(rows)
    vectors, waiting = candidates.principal_of(together), np.flatnonzero(~open_)
    found, gains = most_expected_gain(vectors, waiting, open_, groups[together], count, ridge=ridge)
    return [
        Pick(row=row, arm="mined", reason=f"{GAIN} {gain:.5f}")
        for row, gain in zip(together[found].tolist(), gains.tolist(), strict=True)
    ]


def _possible(candidates: Candidates, task: Task, slice_: Slice | None, seed: Sequence[int]) -> tuple[Ints, Ints]:
    """The open rows that could be in the slice, and those that are labelled or requested; at most `MOST_ROWS` of each,
    drawn from `seed`."""
    open_ = candidates.open[task.name]
    possible = open_ if slice_ is None else open_ & candidates.could_be_inside(task, slice_)
    generator = np.random.default_rng(seed)
    rows = some_of(np.flatnonzero(possible), MOST_ROWS, generator)
    return rows, some_of(np.flatnonzero(~open_), MOST_ROWS, generator)
