"""Requests for a class of which no label is known yet: a mix of strategies, each with a share that follows its hits.

No single geometry is safe: on playing cards thinned to 1%, farthest-first found one class with every seed and another
with none, and so did one of each cluster. So a budget is divided over arms:

- related: what other tasks' labels, and predictions in their place, say of the slice; where the predicate reads the
  task alone, combinations of their values that no label of the task covers yet
- like: the nearest to an example that the user names
- cluster: one of each cluster without a label, the densest first
- diverse: the farthest from everything labelled or requested
- cold_random: any sample

An arm's weight is its `PRIOR` x 2 (hits + 1) / (n + 2), over the n answered requests that it made for rare slices.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools
from curation.catalog.slices import Slice
from curation.catalog.tasks import Task
from curation.images.embeddings import farthest_first
from curation.requests.budget import largest_remainder
from curation.requests.candidates import Candidates
from curation.requests.clusters import one_of_each_cluster
from curation.requests.related import related_rows
from curation.requests.strategies import Pick, one_of_each_group

__all__ = ["PRIOR", "arm_weights", "cold_start"]

Found = Iterable[tuple[int, str]]
"""Rows, best first, each with the reason of its request."""

PRIOR: Final = {"related": 8.0, "like": 40.0, "cluster": 2.0, "diverse": 1.0, "cold_random": 1.0}
"""Weight of each arm before it has made a request: an example or another task knows more than geometry does, which on
cards at 1% is no better than random samples."""


def cold_start(candidates: Candidates, task: Task, slice_: Slice, count: int, seed: Sequence[int]) -> list[Pick]:
    """Up to `count` open rows that could be in the slice, each with its arm and reason; a function of the arguments.

    An arm without what it needs (vectors, an example, other tasks' labels) leaves its share to the others in turn.
    """
    free = candidates.open[task.name] & candidates.could_be_inside(task, slice_)
    generator = np.random.default_rng(seed)
    picked, picks = np.zeros(len(free), np.bool_), list[Pick]()
    left = arm_weights(candidates)
    while left and len(picks) < count:
        for name, share in largest_remainder(left, count - len(picks)).items():
            if not share:
                continue
            found = list(islice(_rows(name, candidates, task, slice_, free, picked, share, generator), share))
            if len(found) < share:
                left.pop(name)
            rows = [row for row, _ in found]
            free[rows], picked[rows] = False, True
            picks += [Pick(row=row, arm=name, reason=f"no label yet of a {slice_.name}: {why}") for row, why in found]
    return picks


def arm_weights(candidates: Candidates) -> dict[str, float]:
    """The weight of each arm, by what the answers to its requests for rare slices found."""
    asked = candidates.now.requests("answered")
    asked = asked.filter(pc.is_in(asked["arm"], value_set=pa.array(list(PRIOR), pa.string())))
    hits, made = dict.fromkeys(PRIOR, 0), dict.fromkeys(PRIOR, 0)
    slices = candidates.now.slices()
    for name in pc.unique(asked["slice"]).to_pylist():
        rows = asked.filter(pc.equal(asked["slice"], name))
        if name not in slices or (slices[name].reads_predictions and not candidates.has_predictions):
            continue
        inside = np.isin(rows["sample_id"].to_numpy(), candidates.members(slices[name]))
        for arm, hit in zip(rows["arm"].to_pylist(), inside.tolist(), strict=True):
            hits[arm], made[arm] = hits[arm] + hit, made[arm] + 1
    return {arm: PRIOR[arm] * 2 * (hits[arm] + 1) / (made[arm] + 2) for arm in PRIOR}


def _rows(
    name: str,
    candidates: Candidates,
    task: Task,
    slice_: Slice,
    free: Bools,
    picked: Bools,
    count: int,
    generator: "np.random.Generator",
) -> Iterator[tuple[int, str]]:
    """The rows of one arm, best first."""
    if name == "related":
        yield from related_rows(candidates, task, slice_, free)
    elif name == "cold_random":
        yield from ((row, "any sample") for row in generator.permutation(np.flatnonzero(free)).tolist())
    elif candidates.has_vectors and name == "like" and candidates.example is not None:
        yield from _nearest(candidates, free)
    elif candidates.has_vectors and name in ("cluster", "diverse"):
        yield from _spread_out(name, candidates, task, free, picked, count, generator)


def _nearest(candidates: Candidates, free: Bools) -> Iterator[tuple[int, str]]:
    """Free rows, the nearest to the example first, one of each group before the second of any."""
    distance = candidates.distances()
    assert distance is not None
    order = np.flatnonzero(free)
    order = order[np.argsort(distance[order], kind="stable")]
    for row in one_of_each_group(order, candidates.groups, np.zeros(len(free), np.bool_)).tolist():
        yield row, f"near the example: distance = {distance[row]:.3f}"


def _spread_out(
    name: str,
    candidates: Candidates,
    task: Task,
    free: Bools,
    picked: Bools,
    count: int,
    generator: "np.random.Generator",
) -> Iterator[tuple[int, str]]:
    """Free rows far from each other and from all that is labelled or requested: by clusters, or by distance alone."""
    taken = ~candidates.open[task.name] | picked
    rows = np.flatnonzero(free | taken)
    vectors, covered = candidates.principal()[rows], taken[rows]
    if name == "cluster":
        found, why = one_of_each_cluster(vectors, covered, count, generator), "one of its cluster"
    else:
        found, why = farthest_first(vectors, np.flatnonzero(covered), count), "unlike everything labelled"
    yield from ((row, why) for row in rows[found].tolist())
