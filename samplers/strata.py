"""Strata of one task: its usable labels, grouped by class and by the pattern of boosted slices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import BadInput
from curation.ledger.snapshot import Snapshot
from curation.priors import natural_prior
from curation.tasks import Task
from samplers.policy import TaskPolicy
from samplers.rates import PI_UNITS, Floats, Ints, quantise, regression_bins, stratum_targets

__all__ = ["Strata", "strata_of"]

SMALLEST_LOSS = 0.01


@dataclass(frozen=True, kw_only=True)
class Strata:
    """L labels of a task in S strata, with their integer targets.

    `samples` [L] are sample ids, `values` [L] class codes or numbers, `stratum` [L] codes below S; `names`, `counts`
    and `pi` [S] describe the strata, `pi` in units of 2^-40. `fresh` [S] is what a
    label counts among those of its class.
    """

    task: Task
    samples: Ints
    values: Floats
    stratum: npt.NDArray[np.int32]
    names: tuple[str, ...]
    classes: Ints
    boosts: Floats
    fresh: Floats
    counts: Ints
    pi: Ints
    capped: bool

    @property
    def targets(self) -> Floats:
        """pi [S] as probabilities."""
        return np.asarray(self.pi / PI_UNITS, np.float64)

    @property
    def labelled_mass(self) -> Floats:
        """Labels of each stratum [S], mined ones at what they count."""
        return np.asarray(self.counts * self.fresh, np.float64)

    def class_factor(self) -> list[float] | None:
        """c(y) of each class where the rate factors as b(slice) c(y); None where it does not, or for numbers."""
        if self.task.kind == "regression" or self.capped:
            return None
        boosted = np.bincount(self.classes, self.labelled_mass * self.boosts, minlength=len(self.task.classes))
        target = np.bincount(self.classes, self.targets, minlength=len(self.task.classes))
        return [float(t / b) if b else 0.0 for t, b in zip(target, boosted, strict=True)]

    def constant_loss(self) -> float:
        """Loss of the best constant predictor under the task's own draws, at least 0.01.

        The entropy of its classes in nats; half the variance of the target in units of its standard deviation.
        """
        if self.task.kind == "regression":
            mean, deviation = self.statistics()
            q = self.targets[self.stratum] / self.counts[self.stratum]
            z = (self.values - mean) / deviation
            centre = float((q * z).sum())
            loss = 0.5 * float((q * (z - centre) ** 2).sum())
        else:
            target = np.bincount(self.classes, self.targets)
            loss = -float(sum(p * np.log(p) for p in target if p > 0))
        return max(SMALLEST_LOSS, loss)

    def statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of a regression target over its labels, for standardising; (0, 1) otherwise."""
        if self.task.kind != "regression":
            return 0.0, 1.0
        return float(self.values.mean()), max(float(self.values.std()), 1e-6)


def strata_of(now: Snapshot, task: Task, policy: TaskPolicy) -> Strata:
    """The strata of `task` at this snapshot, over its known labels of training samples.

    BadInput when it has no label to train on. A boosted slice that holds none of them yet changes nothing.
    """
    samples, values = _usable(now, task, policy)
    if not len(samples):
        raise BadInput(f"policy: task {task.name} has no label to train on; give it share 0, or ask for labels")
    classes = regression_bins(values) if task.kind == "regression" else values.astype(np.int64)
    marks = {name: np.isin(samples, now.members(now.slices()[name].predicate)) for name in policy.boost}
    mined = np.isin(samples, now.mined(task.name)) & (policy.mined == "natural")
    marks["mined"] = mined
    pattern = sum((inside.astype(np.int64) << bit for bit, inside in enumerate(marks.values())), np.zeros_like(classes))
    cells, stratum, counts = np.unique(classes << len(marks) | pattern, return_inverse=True, return_counts=True)
    class_of = cells >> len(marks)
    holds = (cells[:, None] >> np.arange(len(marks)) & 1).astype(np.bool_)
    boosts = np.where(holds[:, :-1], list(policy.boost.values()), 1.0).prod(axis=1)
    fresh = np.where(holds[:, -1], _standing(now, task, samples, classes, mined)[class_of], 1.0)
    targets = stratum_targets(counts, class_of, boosts, policy, fresh)
    free = stratum_targets(counts, class_of, boosts, policy.model_copy(update={"cap": None}), fresh)
    return Strata(
        task=task, samples=samples, values=values, stratum=stratum.astype(np.int32),
        names=tuple(_name(task, list(marks), c, marked) for c, marked in zip(class_of, holds, strict=True)),
        classes=class_of, boosts=boosts, fresh=fresh, counts=counts.astype(np.int64), pi=quantise(targets, PI_UNITS),
        capped=not np.allclose(targets, free, rtol=1e-9, atol=0),
    )  # fmt: skip


def _standing(now: Snapshot, task: Task, samples: Ints, classes: Ints, mined: npt.NDArray[np.bool_]) -> Floats:
    """What a mined label of each class counts beside one that was not mined, at most 1.

    Mining labels one image in nearly every group that looks like a slice, so such an image stands for its group, while
    one of the n other labels of its class stands for (N - M) / n images: N is how many of the class the natural prior
    expects among the training samples, M how many the groups of the mined ones hold (Horvitz & Thompson 1952). Without
    this, what was easy to find, and what was mistaken for it, would crowd out the rest of its class.
    """
    if not mined.any():
        return np.ones(int(classes.max()) + 1)
    wide = len(task.classes)
    found, others = (np.bincount(classes[which], minlength=wide) for which in (mined, ~mined))
    held = np.bincount(classes[mined], _images_stood_for(now, samples[mined]), minlength=wide)
    unseen = natural_prior(now, task) * len(now.training_ids()) - held
    counts = np.where((others > 0) & (unseen > 0), held * others / np.maximum(found * unseen, 1e-9), 1.0)
    return np.asarray(np.minimum(counts, 1.0), np.float64)


def _images_stood_for(now: Snapshot, mined: Ints) -> Floats:
    """For each mined sample the training samples of its group, over how many of the group were mined."""
    samples = now.samples()
    train = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(now.training_ids())))
    groups = np.unique(np.asarray(train["group"].to_pylist(), dtype=str), return_inverse=True)[1]
    order = np.argsort(train["sample_id"].to_numpy())
    mine = groups[order[np.searchsorted(train["sample_id"].to_numpy()[order], mined)]]
    return np.asarray(np.bincount(groups)[mine] / np.bincount(mine)[mine], np.float64)


def _usable(now: Snapshot, task: Task, policy: TaskPolicy) -> tuple[Ints, Floats]:
    """Ids and values of the known labels of training samples that are not excluded, by sample id."""
    labels = now.labels(task.name)
    train = pa.array(now.training_ids())
    wanted = pc.and_(pc.equal(labels["state"], 1), pc.is_in(labels["sample_id"], value_set=train))
    if not policy.model_labels:
        wanted = pc.and_(wanted, pc.not_equal(labels["source"], "model"))
    usable = labels.filter(wanted)
    column = usable["number" if task.kind == "regression" else "code"]
    return np.asarray(usable["sample_id"].to_numpy(), np.int64), np.asarray(column.to_numpy(), np.float64)


def _name(task: Task, marks: Sequence[str], code: int, marked: npt.NDArray[np.bool_]) -> str:
    head = f"bin {code}" if task.kind == "regression" else task.classes[code]
    return " & ".join([head, *(name for name, holds in zip(marks, marked, strict=True) if holds)])
