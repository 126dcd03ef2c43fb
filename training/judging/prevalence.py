"""How common each class is among the images that may be trained on, although mining enriched its labels.

The labels of the random arm were drawn uniformly from the images without a label or a request. So a class has as many
images as are known, and the rate of the random arm times those that were open (Horvitz & Thompson 1952). Labels that
were mined later say nothing about the others: they count for the rounds after them, as known. Rounds are averaged by
their random answers; the joint rate has Wilson's interval at its effective size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools, Floats, Ints
from curation.catalog.applicability import applicability
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.rows import tabled
from training.evaluation.drawn_labels import Batch, answered, batches_of
from training.evaluation.intervals import share_of_variance

__all__ = ["ClassPrevalence", "prevalence", "shares"]

RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class ClassPrevalence:
    """One class of a task among `images`: how many are `known` to have it, how many labels answered the random arm, and
    the share of the images that have it, with a 95% interval."""

    task: str
    name: str
    images: int
    known: int
    random: int
    value: float
    low: float
    high: float


@tabled(ClassPrevalence)
def prevalence(now: Snapshot, task: Task) -> list[ClassPrevalence]:
    """A row for each class of a task, over the images that may be trained on and that the task applies to.

    Images about which people are unsure are left out. BadInput for a task without classes, and where no request of the
    random arm is answered.
    """
    if not task.classes:
        raise BadInput(f"task {task.name}: has no classes, so nothing to be common; name another task")
    labels = now.labels(task.name)
    out = [labels.filter(pc.not_equal(labels["state"], KNOWN))["sample_id"].to_numpy(), applicability(now, task).known]
    ids = np.setdiff1d(now.training_ids(), np.concatenate(out))
    known = labels.filter(pc.equal(labels["state"], KNOWN))
    known = known.filter(pc.is_in(known["sample_id"], value_set=pa.array(ids)))
    if task.kind == "multilabel":  # where nobody looked for some classes, the image is open
        known = known.filter(pc.is_null(known["looked"]))
    rows, every = np.searchsorted(ids, known["sample_id"].to_numpy()), np.ones(len(ids), np.bool_)
    batches = batches_of(now, task.name, ids, RANDOM, lambda _slice, _reason: every)
    random = sum(len(part.at) for part in answered(batches, rows, every))
    if not random and len(rows) < len(ids):
        raise BadInput(
            f"task {task.name}: no request of the random arm is answered, and mined labels show no natural rate; "
            "`amber request --budget N` requests some at random, `--random-share 1` all"
        )
    present = _present(task, known)
    found = shares(present, rows, len(ids), batches)
    return [
        ClassPrevalence(
            task=task.name, name=name, images=len(ids), known=int(present[:, code].sum()), random=random,
            value=float(value), low=float(low), high=float(high),
        )
        for code, (name, (value, low, high)) in enumerate(zip(task.classes, found, strict=True))
    ]  # fmt: skip


def shares(present: Bools, rows: Ints, images: int, batches: Sequence[Batch]) -> Floats:
    """The share of `images` that have each class, and its 95% interval: [C, 3] value, low, high.

    `present` [n, C] says which classes the labels of the images `rows` [n] have; `batches` are all requests, those of
    the random arm with a pool of all images.
    """
    every, drawn = np.ones(images, np.bool_), np.zeros(len(rows), np.bool_)
    opened: Ints = np.zeros(len(rows), np.int64)
    for batch in batches:
        mine = np.isin(rows, batch.rows)
        drawn |= mine
        opened[mine] = batch.opened
    counts: Floats = present.sum(axis=0).astype(np.float64)
    before, rate, left, square = np.zeros_like(counts), np.zeros_like(counts), 0.0, 0.0
    for part in answered(batches, rows, every):
        earlier = ~drawn | (opened < part.opened)
        open_, n = images - int(earlier.sum()), len(part.at)
        before += part.share * present[earlier].sum(axis=0)
        rate += part.share * open_ * present[part.at].mean(axis=0)
        left += part.share * open_
        square += (part.share * open_) ** 2 * max(0.0, 1 - n / open_) / n
    if square <= 0:  # nothing is left to estimate
        exact = (before + rate if left else counts) / max(1, images)
        return np.repeat(np.asarray(exact, np.float64)[:, None], 3, axis=1)
    size = left**2 / square
    found = []
    for known, base, part_rate in zip(counts, before, rate / left, strict=True):
        figure = share_of_variance(float(part_rate), 0.0, size, n=int(size) + 1, groups=2)
        row = [(base + left * float(edge or 0.0)) / images for edge in (figure.value, figure.low, figure.high)]
        found.append(np.clip(row, known / images, (images - len(rows) + known) / images))
    return np.array(found, np.float64)


def _present(task: Task, known: pa.Table) -> Bools:
    """Which classes [n, C] each known label has."""
    found = np.zeros((len(known), len(task.classes)), np.bool_)
    if task.kind in ("binary", "categorical"):
        found[np.arange(len(known)), known["code"].to_numpy()] = True
        return found
    column = (
        known["codes"].to_pylist()
        if task.kind == "multilabel"
        else [[box["code"] for box in boxes or ()] for boxes in known["boxes"].to_pylist()]
    )
    for row, codes in enumerate(column):
        found[row, list(codes or ())] = True
    return found
