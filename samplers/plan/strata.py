"""Strata of one task: its labels, grouped by class and by the pattern of boosted slices, with their targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.analysis.priors import natural_prior
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from samplers.plan.labels import Labels
from samplers.plan.rates import PI_UNITS, Floats, Ints, quantise, regression_bins, stratum_targets
from samplers.policy.policy import TaskPolicy

__all__ = ["Strata", "Within", "strata_of"]

SMALLEST_LOSS = 0.01
NONE = "none"
"""The class of an image that was looked at and has none of a multilabel or detection task's classes."""


class Within:
    """Which samples are in a slice or were mined, at a snapshot; each asked of the catalog once."""

    def __init__(self, now: Snapshot) -> None:
        self._now = now
        self._slices: dict[str, npt.NDArray[np.bool_]] = {}
        self._answered: pa.Table | None = None

    def slice(self, name: str, samples: Ints) -> npt.NDArray[np.bool_]:
        """Which of `samples` [L], ids, are in the declared slice `name`."""
        if name not in self._slices:
            members = self._now.members(self._now.slice(name).predicate)
            self._slices[name] = np.zeros(int(members.max(initial=0)) + 1, np.bool_)
            self._slices[name][members] = True
        held = self._slices[name]
        return np.asarray(held[np.minimum(samples, len(held) - 1)] & (samples < len(held)), np.bool_)

    def mined(self, task: str, samples: Ints) -> npt.NDArray[np.bool_]:
        """Which of `samples` [L] have a label of `task` that answered a request which was mined, or picked by hand."""
        if self._answered is None:
            asked = self._now.requests("answered")
            self._answered = asked.filter(pc.is_in(asked["arm"], value_set=pa.array(["mined", "picked"])))
        mine = self._answered.filter(pc.equal(self._answered["task"], task))
        return np.isin(samples, mine["sample_id"].to_numpy())


@dataclass(frozen=True, kw_only=True)
class Strata:
    """L labels of a task in S strata, with their integer targets in each of P phases.

    `stratum` [L] are codes below S. `names`, `classes`, `counts` and `fresh` [S], `boosts` and `pi` [P, S] describe the
    strata: `pi` in units of 2^-40, `fresh` what a label counts among those of its class. `phases` [P] sum to 1.
    """

    labels: Labels
    stratum: npt.NDArray[np.int32]
    names: tuple[str, ...]
    classes: Ints
    boosts: Floats
    fresh: Floats
    counts: Ints
    pi: Ints
    phases: Floats
    capped: bool

    @property
    def task(self) -> Task:
        """The task whose strata they are."""
        return self.labels.task

    @property
    def targets(self) -> Floats:
        """pi [S] as probabilities, over all phases."""
        return np.asarray(self.phases @ (self.pi / PI_UNITS), np.float64)

    def labelled(self) -> Floats:
        """Labels of each class [C], mined ones at what they count; of several classes an image counts in each."""
        if self.task.kind in ("multilabel", "detection"):
            return np.bincount(self.labels.held()[1], minlength=len(self.task.classes)).astype(np.float64)
        mass = np.bincount(self.classes, self.counts * self.fresh, minlength=len(self.task.classes))
        return np.asarray(mass, np.float64)

    def class_factor(self) -> list[float] | None:
        """c(y) of each class where the rate factors as b(slice) c(y), in the last phase; None where it does not.

        It does not for numbers, for the rarest of several classes, and where a cap binds.
        """
        if self.task.kind not in ("binary", "categorical") or self.capped:
            return None
        classes = len(self.task.classes)
        boosted = np.bincount(self.classes, self.counts * self.fresh * self.boosts[-1], minlength=classes)
        target = np.bincount(self.classes, self.pi[-1] / PI_UNITS, minlength=classes)
        return [float(t / b) if b else 0.0 for t, b in zip(target, boosted, strict=True)]

    def constant_loss(self) -> float:
        """Loss of the best constant predictor under the task's own draws, at least 0.01; 1 for detection.

        The entropy of its classes in nats, for a multilabel summed over whether each is there; half the variance of the
        target in units of its standard deviation.
        """
        match self.task.kind:
            case "detection":
                return 1.0
            case "regression":
                mean, deviation = self.statistics()
                z, q = (self.labels.values - mean) / deviation, self._q()
                loss = 0.5 * float((q * (z - float((q * z).sum())) ** 2).sum())
            case "multilabel":
                image, code = self.labels.held()
                there = np.bincount(code, self._q()[image], minlength=len(self.task.classes))
                loss = sum(_entropy(np.array([p, 1 - p])) for p in there.tolist())
            case _:
                loss = _entropy(np.asarray(np.bincount(self.classes, self.targets), np.float64))
        return max(SMALLEST_LOSS, loss)

    def statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of a regression target over its labels, for standardising; (0, 1) otherwise."""
        if self.task.kind != "regression":
            return 0.0, 1.0
        return float(self.labels.values.mean()), max(float(self.labels.values.std()), 1e-6)

    def _q(self) -> Floats:
        return np.asarray((self.targets / self.counts)[self.stratum], np.float64)


def strata_of(
    now: Snapshot, labels: Labels, policy: TaskPolicy, inside: Within, phases: Sequence[float] = (1.0,)
) -> Strata:
    """The strata of one task's labels, and their targets in each phase.

    A boosted slice that holds none of them yet changes nothing.
    """
    task, values = labels.task, labels.values
    classes = regression_bins(values) if task.kind == "regression" else values.astype(np.int64)
    marks = {name: inside.slice(name, labels.samples) for name in policy.boost}
    mined = _mined(task, policy, labels.samples, inside)
    marks["mined"] = mined
    cells, stratum, counts = _numbered(classes << len(marks) | _pattern(marks, len(classes)))
    class_of = cells >> len(marks)
    holds = (cells[:, None] >> np.arange(len(marks)) & 1).astype(np.bool_)
    fresh = np.where(holds[:, -1], _standing(now, task, labels.samples, classes, mined)[class_of], 1.0)
    boosts = np.stack([np.where(holds[:, :-1], policy.boosts(p), 1.0).prod(axis=1) for p in range(len(phases))])
    targets = [stratum_targets(counts, class_of, each, policy, fresh) for each in boosts]
    uncapped = policy.model_copy(update={"cap": None})
    free = [stratum_targets(counts, class_of, each, uncapped, fresh) for each in boosts]
    return Strata(
        labels=labels, stratum=stratum, counts=counts, classes=class_of, boosts=boosts, fresh=fresh,
        names=tuple(_name(task, list(marks), c, marked) for c, marked in zip(class_of, holds, strict=True)),
        pi=np.stack([quantise(each, PI_UNITS) for each in targets]), phases=np.asarray(phases, np.float64),
        capped=not np.allclose(targets, free, rtol=1e-9, atol=0),
    )  # fmt: skip


def _pattern(marks: dict[str, npt.NDArray[np.bool_]], size: int) -> Ints:
    return sum((held.astype(np.int64) << bit for bit, held in enumerate(marks.values())), np.zeros(size, np.int64))


def _numbered(cells: Ints) -> tuple[Ints, npt.NDArray[np.int32], Ints]:
    """The distinct cells, sorted; for each entry the place of its cell among them; and how many entries each has."""
    if int(cells.max()) > 1 << 22:
        distinct, place, counts = np.unique(cells, return_inverse=True, return_counts=True)
        return distinct, np.asarray(place, np.int32), counts.astype(np.int64)
    counted = np.bincount(cells)
    distinct = np.flatnonzero(counted)
    number = np.zeros(len(counted), np.int32)
    number[distinct] = np.arange(len(distinct))
    return distinct, number[cells], counted[distinct].astype(np.int64)


def _mined(task: Task, policy: TaskPolicy, samples: Ints, inside: Within) -> npt.NDArray[np.bool_]:
    """Labels that weigh as in nature. Natural priors are known of tasks with one class on an image."""
    if policy.mined != "natural" or task.kind not in ("binary", "categorical"):
        return np.zeros(len(samples), np.bool_)
    return inside.mined(task.name, samples)


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


def _entropy(p: Floats) -> float:
    return -float(sum(part * np.log(part) for part in p.tolist() if part > 0))


def _name(task: Task, marks: Sequence[str], code: int, marked: npt.NDArray[np.bool_]) -> str:
    head = f"bin {code}" if task.kind == "regression" else (*task.classes, NONE)[code]
    return " & ".join([head, *(name for name, holds in zip(marks, marked, strict=True) if holds)])
