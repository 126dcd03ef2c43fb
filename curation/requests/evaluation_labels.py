"""Labels of test images that are requested to judge runs: drawn with a propensity, never candidates for training.

Only test images are requested. Natural priors and thresholds are counted in validation, whose labels stay a random
sample. Such labels are not representative by themselves: figures weigh each by its inverse propensity.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow.compute as pc

from curation.arrays import Bools, Floats, Ints
from curation.catalog.applicability import applicability
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task

__all__ = [
    "DISAGREEMENT", "ESTIMATE", "EVALUATION_ARMS", "SPLIT", "drawn", "propensities", "request_rows", "requestable",
    "spread_evenly",
]  # fmt: skip

ESTIMATE: Final = "estimate"
"""The arm of requests for the error of one slice."""
DISAGREEMENT: Final = "disagreement"
"""The arm of requests for the difference of two runs."""
EVALUATION_ARMS: Final = (ESTIMATE, DISAGREEMENT)
SPLIT: Final = "test"
"""The split whose images are requested."""


def propensities(sizes: Floats, count: int) -> Floats:
    """The probability [P] with which each of P images is drawn: in proportion to `sizes` [P] (above 0), at most 1, and
    in sum `count` (0 to P).

    >>> propensities(np.array([1.0, 1.0, 2.0, 8.0]), 2).tolist()
    [0.25, 0.25, 0.5, 1.0]
    """
    found: Floats = np.zeros(len(sizes))
    certain = np.zeros(len(sizes), np.bool_)
    while int(certain.sum()) < count:
        left = np.where(certain, 0.0, sizes)
        found = np.where(certain, 1.0, left * ((count - certain.sum()) / left.sum()))
        above = (found >= 1) & ~certain
        if not above.any():
            return found
        certain |= above
    return np.where(certain, 1.0, found)


def drawn(propensity: Floats, seed: Sequence[int]) -> Ints:
    """The rows that are drawn, in random order: each with exactly its `propensity` [P], as many as they sum to.

    Systematic sampling in random order (Madow 1949): the propensities are intervals end to end, and a row is drawn if
    one of the points u, u + 1, ... falls into its interval.

    >>> sorted(drawn(np.array([1.0, 0.0, 1.0]), [0]).tolist())
    [0, 2]
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(propensity))
    ends = np.round(np.cumsum(propensity[order]), 9)
    touched = np.diff(np.floor(np.concatenate([[0.0], ends]) + generator.random())) > 0
    return np.asarray(generator.permutation(order[touched]), np.int64)


def spread_evenly(capacity: Mapping[str, int], count: int) -> dict[str, int]:
    """`count` labels over several tasks, equally many for each as far as its `capacity` reaches; tasks that get none
    are left out. `count` is at most the sum of the capacities.

    >>> spread_evenly({"car": 2, "bus": 50, "bike": 50}, 10)
    {'car': 2, 'bus': 4, 'bike': 4}
    """
    given, left = dict.fromkeys(capacity, 0), count
    while left:
        open_ = [name for name in capacity if given[name] < capacity[name]]
        for place, name in enumerate(open_):
            more = min(left // len(open_) + (place < left % len(open_)), capacity[name] - given[name])
            given[name] += more
        left = count - sum(given.values())
    return {name: number for name, number in given.items() if number}


def requestable(now: Snapshot, task: Task, ids: Ints) -> Bools:
    """Whether a label of `task` may be requested of each sample of `ids` [N] to judge a run: a test image that is not
    excluded, to which the task applies, without a label of any state and without a request that is not withdrawn."""
    samples, requests = now.samples(), now.requests()
    test = samples.filter(pc.and_(pc.equal(samples["split"], SPLIT), pc.invert(samples["excluded"])))
    mine = pc.and_(pc.equal(requests["task"], task.name), pc.not_equal(requests["state"], "withdrawn"))
    taken = [
        now.labels(task.name)["sample_id"].to_numpy(), requests.filter(mine)["sample_id"].to_numpy(),
        applicability(now, task).known,
    ]  # fmt: skip
    return np.isin(ids, test["sample_id"].to_numpy()) & ~np.isin(ids, np.concatenate(taken))


def request_rows(
    ids: Ints, propensity: Floats, *, task_id: int, arm: str, reason: str, run: str, slice_: str = ""
) -> list[dict[str, object]]:
    """Rows of `REQUESTS` for the samples `ids` [n] that were drawn with `propensity` [n], the first to be labelled
    first."""
    return [
        {
            "sample_id": sample, "task_id": task_id, "arm": arm, "slice": slice_, "reason": reason, "run": run,
            "priority": priority, "propensity": probability, "cost": 1.0,
        }
        for priority, (sample, probability) in enumerate(zip(ids.tolist(), propensity.tolist(), strict=True))
    ]  # fmt: skip
