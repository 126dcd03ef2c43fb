"""Weights of labels that were drawn with a propensity, in one batch of requests or in several.

A batch is drawn from the images that had neither a label nor a request then; the others are known. So each batch gives
an unbiased total over its pool by itself: the known images, and the drawn ones by their inverse propensity (Horvitz &
Thompson 1952). The totals of several batches are averaged in proportion to their answers, as in active testing (Kossen,
Farquhar, Gal & Rainforth 2021). A label that was drawn, but whose batch does not count for a cell, has the weight 0
there until a later batch takes it as known. Any other label has the weight 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools, Floats, Ints
from curation.catalog.snapshot import Snapshot

__all__ = ["Answered", "Batch", "answered", "batches_of", "label_weights"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Label requests of one commit (`opened`): `rows` [d] of their samples, and the `propensity` [d] of each.

    `pool` [N] marks the samples that the batch stands for; None where it stands only for itself.
    """

    opened: int
    pool: Bools | None
    rows: Ints
    propensity: Floats

    def counts_for(self, cell: Bools) -> bool:
        """Whether it can estimate a sum over the samples that `cell` [N] marks: its pool holds them all."""
        return self.pool is not None and not (cell & ~self.pool).any()


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The answers of a batch: `at` [a] are positions among the labels, `propensity` [a] is the probability of being
    drawn and answered, and `share` is the weight of the batch's total in the average (0 to 1)."""

    opened: int
    at: Ints
    propensity: Floats
    share: float


def batches_of(
    now: Snapshot, task: str, ids: Ints, arm: str, pool_of: Callable[[str, str], Bools | None]
) -> list[Batch]:
    """The batches of requests for a task on the samples `ids` [N], which may be in any order; the oldest first.

    `pool_of` gives the pool [N] of the requests of `arm` with one slice and reason, or None. Requests of other arms
    stand only for themselves.
    """
    draws = now.requests.draws(task)
    if not len(draws):
        return []
    draws = draws.filter(pc.is_in(draws["sample_id"], value_set=pa.array(ids)))
    order, mine = np.argsort(ids), pc.equal(draws["arm"], arm)
    found = []
    for part, keys in (
        (draws.filter(mine), ["opened", "slice", "reason"]),
        (draws.filter(pc.invert(mine)), ["opened"]),
    ):
        for cell in part.group_by(keys).aggregate([]).to_pylist():
            here = part
            for name, value in cell.items():
                here = here.filter(pc.equal(here[name], value))
            rows = order[np.searchsorted(ids[order], here["sample_id"].to_numpy())]
            pool = pool_of(cell["slice"], cell["reason"]) if "slice" in cell else None
            found.append(Batch(opened=cell["opened"], pool=pool, rows=rows, propensity=here["propensity"].to_numpy()))
    return sorted(found, key=lambda batch: batch.opened)


def answered(batches: Sequence[Batch], rows: Ints, cell: Bools) -> list[Answered]:
    """The batches that count for a cell [N], with their answers among the labels of the samples `rows` [n].

    Requests without an answer are taken as missing at random within their batch.
    """
    position: Ints = np.full(len(cell), -1, np.int64)
    position[rows] = np.arange(len(rows))
    found = []
    for batch in batches:
        known = position[batch.rows] >= 0
        if known.any() and batch.counts_for(cell):
            responded = float((1 / batch.propensity[known]).sum() / (1 / batch.propensity).sum())
            found.append((batch, known, batch.propensity[known] * responded))
    total = sum(int(known.sum()) for _, known, _ in found)
    return [
        Answered(
            opened=batch.opened, at=position[batch.rows[known]], propensity=chance, share=int(known.sum()) / total
        )
        for batch, known, chance in found
    ]  # fmt: skip


def label_weights(batches: Sequence[Batch], rows: Ints, cell: Bools) -> Floats:
    """The weight [n] with which each label of the samples `rows` [n] counts in sums over a cell [N].

    >>> batch = Batch(opened=3, pool=np.ones(5, np.bool_), rows=np.array([1, 2]), propensity=np.array([0.5, 0.5]))
    >>> label_weights([batch], np.array([0, 1, 2]), np.ones(5, np.bool_)).tolist()
    [1.0, 2.0, 2.0]
    """
    weights = np.ones(len(rows))
    counted = answered(batches, rows, cell)
    for batch in batches:
        weights[np.isin(rows, batch.rows)] = sum(part.share for part in counted if part.opened > batch.opened)
    for part in counted:
        weights[part.at] += part.share / part.propensity
    return weights
