"""The ridge of an exact head: chosen by cross-validation over groups, on the task's training labels alone.

A head of classes is judged by its held-out loss at the best temperature (Guo et al. 2017, "On calibration of modern
neural networks"): its outputs are divided by one number. Otherwise the ridge that makes a head unsure enough would win,
and it costs right answers (docs/log.md).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from curation.arrays import Floats, Ints
from training.network.exact import Columns, Loss, Problem, held_out_logits, losses_at, solve

__all__ = ["DEFAULT", "PATH", "RidgePoint", "chosen", "ridge_path", "weighted_mean"]


PATH = tuple(10.0 ** (-exponent / 2) for exponent in range(1, 13))
"""Ridges, largest first, over the weighted mean squared length of the centred features."""

DEFAULT = 1e-2
"""The ridge, in the same unit, of a task that cannot be cross-validated: all labels in one group."""

COARSE = 3e-4
"""Relative gradient of the solutions that only rank ridges."""

RISES = 2
"""The path ends where the held-out loss has risen this often in a row."""

NEAR = 0.005
"""A larger ridge is taken whose held-out loss is higher by no more than this part."""

SMALLEST, LARGEST, STEPS = 0.5, 20.0, 20
"""Bounds of temperatures, and how many there are for each factor of ten: a warm start finds the same one."""


@dataclass(frozen=True, kw_only=True)
class RidgePoint:
    """One ridge of a path: the held-out loss at its `temperature`, weighted by the plan's q, and the standard error of
    the loss over groups. Numbers have the temperature 1.

    Labels of a class that has no label outside their fold are left out.
    """

    ridge: float
    loss: float
    error: float
    temperature: float = 1.0


def ridge_path(
    loss: Loss, outputs: int, columns: Columns, targets: Tensor, weights: Tensor, folds: Ints, groups: Ints,
    *, near: float | None = None,
) -> list[RidgePoint]:  # fmt: skip
    """The held-out loss of the ridges of `PATH`, the largest first. All folds of a ridge are solved at once.

    Without `near` the path begins at the largest ridge and ends once the loss has risen twice in a row. With `near`, a
    ridge of the path, it begins there and grows to both sides until what is chosen does not depend on further ones.
    """
    path = _Path(loss, outputs, columns, targets, weights, folds, groups)
    if near is None:
        for index in range(len(PATH)):
            path.add(index)
            losses = [point.loss for point in path.points()][-RISES - 1 :]
            if len(losses) > RISES and losses == sorted(set(losses)):
                break
        return path.points()
    middle = min(range(len(PATH)), key=lambda index: abs(np.log(PATH[index] / near)))
    wanted = [middle - 1, middle, middle + 1]
    while wanted := [index for index in wanted if 0 <= index < len(PATH) and index not in path.found]:
        for index in wanted:
            path.add(index)
        best = min(path.found, key=lambda index: path.found[index].loss)
        wanted = [best - 1, best + 1, PATH.index(chosen(path.points()).ridge) - 1]
    return path.points()


class _Path:
    """The points found so far; each is solved from the solution of the nearest larger ridge."""

    def __init__(
        self, loss: Loss, outputs: int, columns: Columns, targets: Tensor, weights: Tensor, folds: Ints, groups: Ints
    ) -> None:
        self.folds, self.groups, self.weights = torch.from_numpy(folds), groups, weights.numpy()
        held = self.folds[None] == torch.arange(int(folds.max()) + 1)[:, None]
        self.problem = Problem(
            loss=loss, outputs=outputs, columns=columns, targets=targets, weights=torch.where(held, 0.0, weights),
            ridges=torch.full((len(held),), float(columns.moments.sum()), dtype=torch.float64),
        )  # fmt: skip
        self.found: dict[int, RidgePoint] = {}
        self._heads: dict[int, Tensor] = {}

    def points(self) -> list[RidgePoint]:
        """All points, the largest ridge first."""
        return [self.found[index] for index in sorted(self.found)]

    def add(self, index: int) -> None:
        """Solve the folds at the ridge `PATH[index]`."""
        problem = replace(self.problem, ridges=self.problem.ridges * PATH[index])
        nearest = max((other for other in self._heads if other < index), default=None)
        heads = solve(problem, start=None if nearest is None else self._heads[nearest], tolerance=COARSE).heads
        self._heads[index] = heads
        logits = held_out_logits(problem, heads, self.folds)
        temperature = 1.0
        if problem.loss in ("binary", "categorical"):
            temperature = _temperature(lambda divisor: self._judge(logits / divisor)[0])
        loss, error = self._judge(logits / temperature)
        self.found[index] = RidgePoint(ridge=PATH[index], loss=loss, error=error, temperature=temperature)

    def _judge(self, logits: Tensor) -> tuple[float, float]:
        """The held-out loss of logits [n, K], and its standard error."""
        each = losses_at(self.problem, logits).numpy()
        return weighted_mean(np.where(np.isfinite(each), each, np.nan), self.weights, self.groups)


def _temperature(loss: Callable[[float], float]) -> float:
    """The temperature with the smallest loss, rounded in its logarithm to one of `STEPS` for each factor of ten."""
    bounds = np.log10(SMALLEST), np.log10(LARGEST)
    found = minimize_scalar(lambda power: loss(10.0**power), bounds=bounds, method="bounded", options={"xatol": 0.01})
    return float(10.0 ** (round(float(found.x) * STEPS) / STEPS))


def chosen(points: Sequence[RidgePoint]) -> RidgePoint:
    """The largest ridge whose held-out loss is above the smallest by no more than `NEAR` of it.

    One standard error more helps very rare classes and costs up to 14% on numbers (docs/log.md).
    """
    smallest = min(point.loss for point in points)
    return max((point for point in points if point.loss <= (1 + NEAR) * smallest), key=lambda point: point.ridge)


def weighted_mean(values: Floats, weights: Floats, groups: Ints) -> tuple[float, float]:
    """The weighted mean of values [n] and its standard error, linearised over groups; values that are NaN are left out.

    >>> weighted_mean(np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([0, 1]))
    (0.5, 0.5)
    """
    weighed, filled = np.where(np.isnan(values), 0.0, weights), np.nan_to_num(values)
    total = weighed.sum()
    if not total:
        return np.nan, np.nan
    mean = float(weighed @ filled / total)
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], weighed * (filled - mean))
    return mean, float(np.sqrt((sums**2).sum() * len(sums) / max(1, len(sums) - 1)) / total)
