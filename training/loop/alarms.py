"""Alarms of a training: one line for each head that did not learn, or that predicts what its task cannot be."""

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from curation.arrays import Floats
from samplers.plan.plan import Plan, PlanTask
from training.loop.task_labels import TaskLabels
from training.network.exact import LIMIT
from training.network.model import Network
from training.network.tree_network import TreeNetwork
from training.run import Head

__all__ = ["NumberRanges", "drawn_alarms", "share_outside", "solved_alarms"]

CONSTANT = 0.95
"""A head whose loss is above this share of the best constant's has learned nothing."""

RISE = 1.1
"""A loss that ends above this multiple of its lowest has risen, if it does so beyond its noise."""

PART = 5
"""A loss is its mean over one of so many parts of the curve: a single point is a few batches, which are noisy."""

BEYOND = 3.0
"""Standard errors of the difference of two such means that are noise."""

PROMISED = 1e-6
"""Relative gradient at which an exact head counts as solved."""

RECENT = 20
"""Batches at the end of a training whose predictions are checked."""

OUTSIDE = 0.01
"""Share of predicted numbers that may leave the range of the labels, widened by a tenth to both sides."""


class NumberRanges:
    """Which predictions of the numeric tasks leave the range of their labels, over the last batches of a training."""

    def __init__(self, plan: Plan, network: Network | TreeNetwork) -> None:
        layout = network.losses.layout
        self._recent: deque[Tensor] = deque(maxlen=RECENT)
        self._tasks = {}
        for code in layout.regression:
            task, values = plan.tasks[code], plan.label_value[plan.label_task == code]
            self._tasks[task.name] = (code, layout.columns[code], (values - task.mean) / task.deviation)

    def add(self, outputs: Tensor, known: Tensor) -> None:
        """Count the outputs [B, O] of a batch where the label is `known` [B, T]: others need not be computed."""
        if self._tasks:
            counted = outputs.clone()
            for code, column, _ in self._tasks.values():
                counted[~known[:, code], column] = torch.nan
            self._recent.append(counted)

    def state(self) -> list[Tensor]:
        """What a checkpoint holds of them."""
        return list(self._recent)

    def restore(self, state: list[Tensor]) -> None:
        """Go on from a checkpoint."""
        self._recent = deque((part.cpu() for part in state), maxlen=RECENT)

    def outside(self) -> dict[str, float]:
        """By task, the share of its last predictions outside the range of its labels."""
        if not self._recent:
            return {}
        outputs = torch.cat(list(self._recent)).numpy()
        return {name: share_outside(outputs[:, mine], values) for name, (_, mine, values) in self._tasks.items()}


def drawn_alarms(
    tasks: Sequence[PlanTask], curve: Sequence[Mapping[str, float]], outside: Mapping[str, float]
) -> list[str]:
    """Alarms of heads that learned from draws: from the loss curve (over c_t) and the share of numbers out of range.

    >>> drawn_alarms([], [{"Draws": 64}], {"speed": 0.25})
    ['speed: 25% of its predictions are outside the range of its labels; look at its labels']
    """
    found = []
    for task in tasks:
        losses = np.array([point[task.name] for point in curve if task.name in point])
        if not len(losses):
            continue
        if not np.isfinite(losses).all():
            found.append(f"{task.name}: its loss became infinite; lower the learning rate")
            continue
        lowest, last, noise = _lowest_and_last(losses)
        if last > RISE * lowest and last - lowest > noise:
            rise = f"{lowest:.2f} of the best constant's to {last:.2f}"
            found.append(f"{task.name}: its loss rose from {rise}; lower the learning rate")
        elif last >= CONSTANT:
            found.append(_nothing(task.name, "training", last))
    return found + [_outside(name, share) for name, share in outside.items() if share > OUTSIDE]


def _lowest_and_last(losses: Floats) -> tuple[float, float, float]:
    """The lowest and the last mean of `losses` [K] over a part of them, and how far these may differ by noise.

    The noise of a point is estimated from successive differences, which a trend hardly changes (von Neumann et al.
    1941); below PART points it cannot be told from a trend, and is taken as none.
    """
    width = max(1, len(losses) // PART)
    means = np.convolve(losses, np.full(width, 1 / width), "valid")
    point = np.sqrt(np.mean(np.diff(losses) ** 2) / 2) if len(losses) >= PART else 0.0
    return float(means.min()), float(means[-1]), float(BEYOND * point * np.sqrt(2 / width))


def solved_alarms(labels: Sequence[TaskLabels], heads: Sequence[Head], network: Network, features: Tensor) -> list[str]:
    """Alarms of heads that were solved, on `features` of the plan's samples, as `network.of_features` takes them."""
    found = []
    for part, head in zip(labels, heads, strict=True):
        if part.presence is not None and (alike := _alike(part)):
            found.append(f"{head.task}: all labels agree about {', '.join(alike)}, which so are constant; label others")
        elif head.kind == "constant":
            found.append(f"{head.task}: all {head.labels} labels are one class, so the head is constant; label others")
        if head.gradient > PROMISED:
            found.append(f"{head.task}: not solved after {LIMIT} iterations, relative gradient {head.gradient:.1e}")
        best = min((loss for _, loss, _ in head.path), default=0.0) / part.task.constant_loss
        if head.kind == "exact" and best >= CONSTANT:
            found.append(_nothing(head.task, "held-out", best))
    return found + [
        _outside(name, share) for name, share in _out_of_range(labels, network, features) if share > OUTSIDE
    ]


def _alike(part: TaskLabels) -> list[str]:
    """The classes of a multilabel task that are in all of its labels which know them, or in none."""
    assert part.presence is not None
    mixed = (part.presence == 1).any(axis=0) & (part.presence == 0).any(axis=0)
    return [name for name, both in zip(part.task.task.classes, mixed.tolist(), strict=True) if not both]


@torch.no_grad()
def _out_of_range(labels: Sequence[TaskLabels], network: Network, features: Tensor) -> list[tuple[str, float]]:
    numeric = [(code, part) for code, part in enumerate(labels) if part.numeric]
    if not numeric:
        return []
    outputs = network.of_features(features)
    return [
        (part.task.name, share_outside(outputs[:, network.losses.layout.columns[code]].numpy(), part.values))
        for code, part in numeric
    ]


def share_outside(predicted: npt.NDArray[np.floating], values: npt.NDArray[np.floating]) -> float:
    """The share of predicted numbers (NaN: none) outside the range of `values`, widened by a tenth to both sides."""
    predicted = predicted[~np.isnan(predicted)]
    if not len(predicted):
        return 0.0
    low, high = float(values.min()), float(values.max())
    room = 0.1 * (high - low)
    return float(((predicted < low - room) | (predicted > high + room)).mean())


def _nothing(task: str, which: str, loss: float) -> str:
    return f"{task}: its {which} loss is {loss:.2f} of the best constant's: the head has learned nothing"


def _outside(task: str, share: float) -> str:
    return f"{task}: {share:.0%} of its predictions are outside the range of its labels; look at its labels"
