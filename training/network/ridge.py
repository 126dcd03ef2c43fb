"""The ridge of an exact head: chosen by cross-validation over groups, on the task's training labels alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from curation.arrays import Floats, Ints
from training.network.exact import Columns, Loss, Problem, losses_of, solve

__all__ = ["DEFAULT", "PATH", "RidgePoint", "chosen", "ridge_path", "weighted_mean"]


PATH = tuple(10.0 ** (-exponent / 2) for exponent in range(1, 13))
"""Ridges, largest first, over the weighted mean squared length of the centred features."""

DEFAULT = 1e-2
"""The ridge, in the same unit, of a task that cannot be cross-validated: all labels in one group."""

COARSE = 3e-4
"""Relative gradient of the solutions that only rank ridges."""

RISES = 2
"""The path ends where the held-out loss has risen this often in a row."""


@dataclass(frozen=True, kw_only=True)
class RidgePoint:
    """One ridge of a path: the held-out loss, weighted by the plan's q, and its standard error over groups.

    Labels of a class that has no label outside their fold are left out.
    """

    ridge: float
    loss: float
    error: float


def ridge_path(
    loss: Loss, outputs: int, columns: Columns, targets: Tensor, weights: Tensor, folds: Ints, groups: Ints,
    *, near: float | None = None,
) -> list[RidgePoint]:  # fmt: skip
    """The held-out loss of the ridges of `PATH`, the largest first. All folds of a ridge are solved at once.

    Without `near` the path begins at the largest ridge and ends once the loss has risen twice in a row. With `near`, a
    ridge of the path, it begins there and grows to both sides until the smallest loss is no longer at an end.
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
        wanted = [best - 1, best + 1]
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
        each = losses_of(problem, heads)[self.folds, torch.arange(len(self.folds))].numpy()
        each = np.where(np.isfinite(each), each, np.nan)
        loss, error = weighted_mean(each, self.weights, self.groups)
        self.found[index] = RidgePoint(ridge=PATH[index], loss=loss, error=error)


def chosen(points: Sequence[RidgePoint]) -> RidgePoint:
    """The point with the smallest held-out loss; of equal ones the largest ridge.

    One standard error more helps very rare classes and costs up to 14% on numbers (docs/log.md).
    """
    return min(points, key=lambda point: point.loss)


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
