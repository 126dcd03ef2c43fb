"""The strata of one task: its labels grouped by class and by the combination of boosted slices, with targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.analysis.priors import natural_prior
from curation.arrays import Bools, Floats, Int32s, Ints
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from samplers.plan.box_attributes import BoxAttribute, learned_attributes
from samplers.plan.box_constants import constant_box_loss
from samplers.plan.labels import TaskLabels
from samplers.plan.presence import presence_entropy
from samplers.plan.rates import PI_UNITS, quantise, regression_bins, stratum_targets
from samplers.policy.policy import TaskPolicy

__all__ = ["SliceMembership", "Strata", "shown_stratum", "strata_of", "stratum_marks"]

MIN_LOSS = 0.01
SEPARATOR = " & "
ENRICHED = ("like", "mined", "picked", "related")
"""Arms of requests that look for a class: their labels are no fair sample of it."""
MINED = "mined"
"""The mark of a stratum of labels that answered such requests."""
NONE = "none"
"""The class of an image that is annotated as having no class of a multilabel or detection task."""


class SliceMembership:
    """Membership of samples in slices and in mined requests, at a snapshot; each slice is queried once."""

    def __init__(self, now: Snapshot) -> None:
        self._now = now
        self._slices: dict[str, Bools] = {}
        self._answered: pa.Table | None = None

    def slice(self, name: str, samples: Ints) -> Bools:
        """Whether each of the sample ids `samples` [L] is in the declared slice `name`."""
        if name not in self._slices:
            members = self._now.members(self._now.slice(name).predicate)
            self._slices[name] = np.zeros(int(members.max(initial=0)) + 1, np.bool_)
            self._slices[name][members] = True
        inside = self._slices[name]
        return np.asarray(inside[np.minimum(samples, len(inside) - 1)] & (samples < len(inside)), np.bool_)

    def mined(self, task: str, samples: Ints) -> Bools:
        """Whether each of `samples` [L] has a label of `task` that answered a mined or hand-picked request."""
        if self._answered is None:
            requests = self._now.requests("answered")
            self._answered = requests.filter(pc.is_in(requests["arm"], value_set=pa.array(ENRICHED)))
        mine = self._answered.filter(pc.equal(self._answered["task"], task))
        return np.isin(samples, mine["sample_id"].to_numpy())


@dataclass(frozen=True, kw_only=True)
class Strata:
    """L labels of a task in S strata, with their integer targets in each of P phases.

    `stratum` [L] are codes below S. `names`, `marks`, `classes`, `counts` and `mined_weight` [S], `boosts` and `pi`
    [P, S] describe the strata: `marks` are the boosted slices that hold the stratum, and "mined"; `pi` is in units of
    2^-40; `mined_weight` is the weight of a label within its class, 1 unless it was mined. `phases` [P] sum to 1.
    """

    labels: TaskLabels
    stratum: Int32s
    names: tuple[str, ...]
    marks: tuple[tuple[str, ...], ...]
    classes: Ints
    boosts: Floats
    mined_weight: Floats
    counts: Ints
    pi: Ints
    phases: Floats
    capped: bool

    @property
    def task(self) -> Task:
        """The task of these strata."""
        return self.labels.task

    @property
    def targets(self) -> Floats:
        """pi [S] as probabilities, averaged over the phases."""
        return np.asarray(self.phases @ (self.pi / PI_UNITS), np.float64)

    def class_counts(self) -> Floats:
        """The number of labels per class [C], mined labels by weight; an image with several classes counts in each."""
        if self.task.kind in ("multilabel", "detection"):
            return np.bincount(self.labels.present_classes()[1], minlength=len(self.task.classes)).astype(np.float64)
        mass = np.bincount(self.classes, self.counts * self.mined_weight, minlength=len(self.task.classes))
        return np.asarray(mass, np.float64)

    def class_factor(self) -> list[float] | None:
        """c(y) of each class [C] if the rate of the last phase factors as b(slice) c(y), otherwise None.

        It does not factor for regression, multilabel and detection tasks, and if a cap binds.
        """
        if self.task.kind not in ("binary", "categorical") or self.capped:
            return None
        classes = len(self.task.classes)
        boosted = np.bincount(self.classes, self.counts * self.mined_weight * self.boosts[-1], minlength=classes)
        target = np.bincount(self.classes, self.pi[-1] / PI_UNITS, minlength=classes)
        return [float(t / b) if b else 0.0 for t, b in zip(target, boosted, strict=True)]

    def constant_loss(self) -> float:
        """The loss of the best constant predictor under the task's own draws, at least 0.01.

        For classes the entropy in nats, for a multilabel task `presence_entropy`, for regression half the variance of
        the standardised target, for boxes `constant_box_loss`.
        """
        match self.task.kind:
            case "detection":
                loss = constant_box_loss(self.labels, self._q())
            case "regression":
                mean, deviation = self.statistics()
                z, q = (self.labels.values - mean) / deviation, self._q()
                loss = 0.5 * float((q * (z - float((q * z).sum())) ** 2).sum())
            case "multilabel":
                loss = presence_entropy(self.labels.states(), self._q())
            case _:
                loss = _entropy(np.asarray(np.bincount(self.classes, self.targets), np.float64))
        return max(MIN_LOSS, loss)

    def attributes(self) -> tuple[BoxAttribute, ...]:
        """The attributes of boxes that are learned."""
        return tuple(learned_attributes(self.labels, self._q())) if self.task.attributes else ()

    def statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of a regression target over its labels; (0, 1) for other kinds."""
        if self.task.kind != "regression":
            return 0.0, 1.0
        return float(self.labels.values.mean()), max(float(self.labels.values.std()), 1e-6)

    def _q(self) -> Floats:
        return np.asarray((self.targets / self.counts)[self.stratum], np.float64)


def strata_of(
    now: Snapshot, labels: TaskLabels, policy: TaskPolicy, membership: SliceMembership, phases: Sequence[float] = (1.0,)
) -> Strata:
    """The strata of one task's labels and their targets in each phase. A boosted slice without labels has no effect."""
    task, values = labels.task, labels.values
    classes = regression_bins(values) if task.kind == "regression" else values.astype(np.int64)
    mined = _mined(task, policy, labels.samples, membership)
    names = (*policy.boost, MINED if MINED not in policy.boost else f"{MINED} request")  # a slice may be called so
    marks = [*(membership.slice(name, labels.samples) for name in policy.boost), mined]
    cells, stratum, counts = _unique_cells(classes << len(marks) | _pattern(marks, len(classes)))
    class_of = cells >> len(marks)
    holds = (cells[:, None] >> np.arange(len(marks)) & 1).astype(np.bool_)
    mined_weight = np.where(holds[:, -1], _mined_weights(now, task, labels.samples, classes, mined)[class_of], 1.0)
    boosts = np.stack([np.where(holds[:, :-1], policy.boosts(p), 1.0).prod(axis=1) for p in range(len(phases))])
    targets = [stratum_targets(counts, class_of, each, policy, mined_weight) for each in boosts]
    uncapped = policy.model_copy(update={"cap": None})
    free = [stratum_targets(counts, class_of, each, uncapped, mined_weight) for each in boosts]
    held = tuple(tuple(name for name, inside in zip(names, row, strict=True) if inside) for row in holds)
    return Strata(
        labels=labels, marks=held, stratum=stratum, counts=counts, classes=class_of, boosts=boosts,
        mined_weight=mined_weight,
        names=tuple(_name(task, code, each) for code, each in zip(class_of, held, strict=True)),
        pi=np.stack([quantise(each, PI_UNITS) for each in targets]), phases=np.asarray(phases, np.float64),
        capped=not np.allclose(targets, free, rtol=1e-9, atol=0),
    )  # fmt: skip


def _pattern(marks: Sequence[Bools], size: int) -> Ints:
    return sum((held.astype(np.int64) << bit for bit, held in enumerate(marks)), np.zeros(size, np.int64))


def _unique_cells(cells: Ints) -> tuple[Ints, Int32s, Ints]:
    """The distinct cells, sorted; the index of each entry's cell among them; the number of entries of each cell."""
    if int(cells.max()) > 1 << 22:
        distinct, index, counts = np.unique(cells, return_inverse=True, return_counts=True)
        return distinct, np.asarray(index, np.int32), counts.astype(np.int64)
    counted = np.bincount(cells)
    distinct = np.flatnonzero(counted)
    number = np.zeros(len(counted), np.int32)
    number[distinct] = np.arange(len(distinct))
    return distinct, number[cells], counted[distinct].astype(np.int64)


def _mined(task: Task, policy: TaskPolicy, samples: Ints, membership: SliceMembership) -> Bools:
    """Whether each label has a natural weight: mined, in a task with one class per image, which has natural priors."""
    if policy.mined != "natural" or task.kind not in ("binary", "categorical"):
        return np.zeros(len(samples), np.bool_)
    return membership.mined(task.name, samples)


def _mined_weights(now: Snapshot, task: Task, samples: Ints, classes: Ints, mined: Bools) -> Floats:
    """The weight of a mined label of each class relative to a label that was not mined, at most 1.

    Mining labels one image in nearly every group that resembles a slice, so a mined image represents its group. Each of
    the n other labels of its class represents (N - M) / n images, where N is the number of images of the class among
    the training samples under the natural prior, and M the number of images in the groups of mined ones (Horvitz &
    Thompson 1952). Without this weight, images that are easy to find would crowd out the rest of their class.
    """
    if not mined.any():
        return np.ones(int(classes.max()) + 1)
    size = len(task.classes)
    found, others = (np.bincount(classes[which], minlength=size) for which in (mined, ~mined))
    in_groups = np.bincount(classes[mined], _images_represented(now, samples[mined]), minlength=size)
    unseen = natural_prior(now, task) * len(now.training_ids()) - in_groups
    weights = np.where((others > 0) & (unseen > 0), in_groups * others / np.maximum(found * unseen, 1e-9), 1.0)
    return np.asarray(np.minimum(weights, 1.0), np.float64)


def _images_represented(now: Snapshot, mined: Ints) -> Floats:
    """For each mined sample the size of its group in the training set, divided by the group's mined samples."""
    samples = now.samples()
    train = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(now.training_ids())))
    groups = np.unique(np.asarray(train["group"].to_pylist(), dtype=str), return_inverse=True)[1]
    order = np.argsort(train["sample_id"].to_numpy())
    mine = groups[order[np.searchsorted(train["sample_id"].to_numpy()[order], mined)]]
    return np.asarray(np.bincount(groups)[mine] / np.bincount(mine)[mine], np.float64)


def stratum_marks(task: Task, code: int, name: str) -> tuple[str, ...]:
    """The marks in the `name` of a stratum of class `code`: a class name may hold " & ", a slice name cannot.

    >>> task = Task(name="seen", kind="categorical", classes=("car", "car & night"), owner="ada")
    >>> stratum_marks(task, 0, "car & night"), stratum_marks(task, 1, "car & night")
    (('night',), ())
    """
    head = name.partition(SEPARATOR)[0] if task.kind == "regression" else (*task.classes, NONE)[code]
    return tuple(name.removeprefix(head).split(SEPARATOR)[1:])


def shown_stratum(name: str, marks: Sequence[str]) -> str:
    """The name of a stratum for people: its class is quoted where it holds the separator itself.

    >>> shown_stratum("car & night", ["night"]), shown_stratum("car & night", [])
    ('car & night', "'car & night'")
    """
    ending = "".join(f"{SEPARATOR}{mark}" for mark in marks)
    head = name.removesuffix(ending)
    return f"{head!r}{ending}" if SEPARATOR in head else name


def _entropy(p: Floats) -> float:
    return -float(sum(part * np.log(part) for part in p.tolist() if part > 0))


def _name(task: Task, code: int, marks: Sequence[str]) -> str:
    head = f"bin {code}" if task.kind == "regression" else (*task.classes, NONE)[code]
    return SEPARATOR.join([head, *marks])
