"""The exact head of each task: its ridge by cross-validation, then its solution, from the last round's where given."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from curation.arrays import Ints
from training.loop.task_labels import TaskLabels
from training.network.class_losses import lone_odds
from training.network.exact import ABSENT, Columns, Problem, columns_of, head_of, rotate, solve
from training.network.folds import folds_of
from training.network.ridge import DEFAULT, RidgePoint, chosen, ridge_path
from training.run import Head

__all__ = ["ExactHead", "Start", "constant_head", "exact_head", "held_out_outputs"]


HELD_OUT = 1e-4
"""Relative gradient of the heads that only predict held-out labels."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a head of an earlier run ended: its record, and of an exact head the weights [K, D] and biases [K]."""

    record: Head
    weights: Tensor
    biases: Tensor


@dataclass(frozen=True, kw_only=True)
class ExactHead:
    """A solved head: weights [K, D] and biases [K], float64, and how they were found."""

    weights: Tensor
    biases: Tensor
    record: Head


def exact_head(
    labels: TaskLabels, features: Tensor, *, seed: int = 0, huber: bool = False, start: Start | None = None
) -> ExactHead:
    """The head of one task on `features` [n, D] float64 of its labels.

    The result is a function of these arguments alone: no other task can change a bit of it. A `start` that was solved
    on the same labels and features is the result. From another, only ridges around that of the start are compared, and
    the solution begins there; where ridge and temperature are the same, the result differs from a cold one by less than
    1e-6. The solution is divided by the temperature of its ridge.
    """
    if labels.constant:
        return constant_head(labels, features.shape[1])
    data = _digest(labels, features, seed, huber=huber)
    if start and start.record.data == data:
        return ExactHead(weights=start.weights, biases=start.biases, record=start.record)
    weights = torch.from_numpy(labels.weights)
    columns = rotate(features, weights)
    targets = torch.from_numpy(labels.targets)
    loss = labels.loss(huber=huber)
    points: list[RidgePoint] = []
    if labels.count > 1:
        folds = folds_of(labels.groups, labels.strata, seed=seed)
        points = ridge_path(
            loss,
            labels.outputs,
            columns,
            targets,
            weights,
            folds,
            labels.groups,
            near=start.record.ridge if start else None,
        )
    points = [each for each in points if math.isfinite(each.loss)]
    point = chosen(points) if points else RidgePoint(ridge=DEFAULT, loss=math.nan, error=math.nan)
    problem = Problem(
        loss=loss, outputs=labels.outputs, columns=columns, targets=targets, weights=weights[None],
        ridges=torch.tensor([point.ridge * float(columns.moments.sum())], dtype=torch.float64),
    )  # fmt: skip
    solved = solve(problem, start=_begun(columns, start)[None] if start else None)
    head, biases = (part / point.temperature for part in head_of(columns, solved.heads[0]))
    record = Head(
        task=labels.task.name, kind="exact", labels=len(labels.rows), classes=labels.classes,
        groups=labels.count, ridge=point.ridge, temperature=point.temperature,
        path=[(each.ridge, each.loss, each.error) for each in points],
        gradient=float(solved.gradients[0]), iterations=int(solved.iterations[0]), data=data,
    )  # fmt: skip
    return ExactHead(weights=head, biases=torch.where(problem.absent[0, :, 0], _alone(labels), biases), record=record)


def constant_head(labels: TaskLabels, width: int) -> ExactHead:
    """The head of a task of which all n labels are one class: that class with odds of n + 1/2 to 1/2.

    So is each class of a multilabel task of which no class is known to be there in one image and not in another.
    """
    present = int(labels.values[0])
    odds = math.log(2 * len(labels.rows) + 1)
    if labels.presence is not None:
        biases = lone_odds(torch.from_numpy(labels.presence))
    elif labels.outputs == 1:
        biases = torch.tensor([odds if present else -odds], dtype=torch.float64)
    else:
        biases = torch.full((labels.outputs,), ABSENT, dtype=torch.float64)
        biases[present] = 0.0
    record = Head(
        task=labels.task.name, kind="constant", labels=len(labels.rows), classes=labels.classes,
        groups=labels.count,
    )  # fmt: skip
    return ExactHead(weights=torch.zeros(labels.outputs, width, dtype=torch.float64), biases=biases, record=record)


def held_out_outputs(labels: TaskLabels, features: Tensor, folds: Ints, *, ridge: float, huber: bool = False) -> Tensor:
    """Outputs [n, K] of exact heads with this ridge, each for the labels of the fold [n] that it did not see."""
    weights = torch.from_numpy(labels.weights)
    columns = rotate(features, weights)
    held = torch.from_numpy(folds)[None] == torch.arange(int(folds.max()) + 1)[:, None]
    problem = Problem(
        loss=labels.loss(huber=huber), outputs=labels.outputs, columns=columns,
        targets=torch.from_numpy(labels.targets), weights=torch.where(held, 0.0, weights),
        ridges=torch.full((len(held),), ridge * float(columns.moments.sum()), dtype=torch.float64),
    )  # fmt: skip
    heads = solve(problem, tolerance=HELD_OUT).heads
    biases = torch.where(problem.absent[:, :, 0], _alone(labels), heads[:, :, -1])
    heads = torch.cat([heads[:, :, :-1], biases[:, :, None]], dim=2)
    return torch.einsum("nr,nkr->nk", columns.values, heads[torch.from_numpy(folds)])


def _begun(columns: Columns, start: Start) -> Tensor:
    """The head [K, r + 1] at which the solution begins; a class that had no label begins at 0."""
    unused = (start.biases == ABSENT) | ~start.weights.any(dim=1)
    biases = torch.where(unused, 0.0, start.biases)
    return start.record.temperature * columns_of(columns, start.weights, biases)


def _digest(labels: TaskLabels, features: Tensor, seed: int, *, huber: bool) -> str:
    """A digest of all that a head follows from."""
    found = hashlib.blake2b(f"{labels.loss(huber=huber)} {labels.outputs} {seed}".encode(), digest_size=16)
    parts = [features.numpy(), labels.values, labels.weights, labels.groups]
    for part in [*parts, *([] if labels.presence is None else [labels.presence])]:
        found.update(np.ascontiguousarray(part).data)
    return found.hexdigest()


def _alone(labels: TaskLabels) -> Tensor:
    """The bias [K] of a class that took no part: as its labels agree, or `ABSENT` where classes share a probability."""
    if labels.presence is None:
        return torch.full((labels.outputs,), ABSENT, dtype=torch.float64)
    return lone_odds(torch.from_numpy(labels.presence))
