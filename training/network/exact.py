"""Exact heads: a task's linear head on frozen features, solved to convergence instead of trained by draws.

The plan's objective of a task is a finite convex sum over its labels, with a ridge on the weights (not on the bias):

    sum over i in L_t of q_t(i) loss_t(W x_i + b) + ridge |W|^2 / 2

`rotate` first turns the features so that the weighted second moment is diagonal: with n labels and D features only
min(n, D) columns are left, and each has a known scale. In these columns L-BFGS (Nocedal & Wright 2006, algorithm 7.4)
with that scale as its preconditioner solves several problems at once: the folds of a cross-validation share every
matrix product. All arithmetic is float64, in shapes that depend on nothing but the task's own labels.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from training.network.class_losses import masked_logistic, one_sided

__all__ = [
    "ABSENT", "LIMIT", "TOLERANCE", "Columns", "Loss", "Problem", "Solution", "columns_of", "head_of",
    "held_out_logits", "losses_at", "losses_of", "rotate", "solve",
]  # fmt: skip

Loss = Literal["binary", "categorical", "multilabel", "regression", "huber"]

TOLERANCE = 1e-9
"""Relative gradient at which a head is solved; 1e-6 is what a run promises."""

LIMIT = 2_000
"""Iterations after which a head that has not converged is reported by an alarm."""

MEMORY = 10
"""Pairs of steps and gradients that L-BFGS keeps."""

RANK = 1e-12
"""Columns whose second moment is below this share of the largest are rounding and left out."""

ABSENT = -1e4
"""The bias of a class that has no label: its probability is 0 in float32."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """n labelled images in rotated features: `values` [n, r + 1] (the last column is 1, for the bias).

    A feature vector x has the columns (x - mean) @ basis. `moments` [r] are the weighted second moments of the columns.
    """

    values: Tensor
    moments: Tensor
    mean: Tensor
    basis: Tensor


@dataclass(frozen=True, kw_only=True)
class Problem:
    """B problems on the same n labels: `weights` [B, n] and `ridges` [B] differ, `targets` [n] do not, or are [B, n].

    Targets are class codes (0 or 1 if binary) or standardised numbers; for a multilabel task [n, K] the states of its
    classes (1, 0, or -1: unknown). `outputs` K is the number of classes, 1 for a binary or numeric task. Classes that
    have no weight in a problem take no part in it; of a multilabel task, those without weight on either side.
    """

    loss: Loss
    outputs: int
    columns: Columns
    targets: Tensor
    weights: Tensor
    ridges: Tensor

    @property
    def absent(self) -> Tensor:
        """Classes without weight, [B, K, 1]."""
        if self.loss == "multilabel":
            return one_sided(self.weights, self.targets)[:, :, None]
        if self.loss != "categorical":
            return torch.zeros(len(self.weights), self.outputs, 1, dtype=torch.bool)
        sums = self.weights @ functional.one_hot(self.targets, self.outputs).double()
        return (sums == 0)[:, :, None]

    def part(self, rows: Tensor) -> "Problem":
        """Some of the B problems."""
        targets = self.targets[rows] if self.own_targets else self.targets
        return replace(self, weights=self.weights[rows], ridges=self.ridges[rows], targets=targets)

    @property
    def own_targets(self) -> bool:
        """Whether each problem has targets of its own."""
        return self.loss == "binary" and self.targets.dim() == 2


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Heads [B, K, r + 1] in rotated features, with the relative gradient and the iterations of each problem."""

    heads: Tensor
    gradients: Tensor
    iterations: Tensor


def rotate(features: Tensor, weights: Tensor) -> Columns:
    """The columns of features [n, D] float64 in which the second moment under `weights` [n] > 0 is diagonal."""
    mean = weights @ features
    centred = features - mean
    rooted = centred * weights.sqrt()[:, None]
    if len(features) <= features.shape[1]:
        moments, vectors = torch.linalg.eigh(rooted @ rooted.T)
        kept = moments > RANK * moments[-1].clamp(min=1e-300)
        moments, vectors = moments[kept], vectors[:, kept]
        basis = rooted.T @ (vectors / moments.sqrt())
    else:
        moments, vectors = torch.linalg.eigh(rooted.T @ rooted)
        kept = moments > RANK * moments[-1].clamp(min=1e-300)
        moments, basis = moments[kept], vectors[:, kept]
    values = torch.cat([centred @ basis, torch.ones(len(features), 1, dtype=torch.float64)], dim=1)
    return Columns(values=values, moments=moments, mean=mean, basis=basis)


def head_of(columns: Columns, solved: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [K, D] and biases [K] on the features themselves, of a head [K, r + 1] on their columns."""
    weights = solved[:, :-1] @ columns.basis.T
    return weights, solved[:, -1] - weights @ columns.mean


def columns_of(columns: Columns, weights: Tensor, biases: Tensor) -> Tensor:
    """The head [K, r + 1] on the columns that is nearest to weights [K, D] and biases [K] on the features."""
    return torch.cat([weights @ columns.basis, (biases + weights @ columns.mean)[:, None]], dim=1)


def losses_of(problem: Problem, heads: Tensor) -> Tensor:
    """The loss [B, n] of every label under heads [B, K, r + 1]; infinite for a class that took no part.

    A class of a multilabel task that took no part adds nothing.
    """
    return _losses(problem, _logits(problem, heads, problem.absent))


def held_out_logits(problem: Problem, heads: Tensor, folds: Tensor) -> Tensor:
    """Outputs [n, K] under heads [B, K, r + 1], each label's under the head of its fold [n]; minus infinity for a class
    that took no part."""
    return _logits(problem, heads, problem.absent)[folds, :, torch.arange(len(folds))]


def losses_at(problem: Problem, logits: Tensor) -> Tensor:
    """The loss [n] of every label under outputs [n, K]."""
    return _losses(problem, logits.T[None])[0]


def solve(
    problem: Problem, *, start: Tensor | None = None, tolerance: float = TOLERANCE, limit: int = LIMIT
) -> Solution:
    """The minimum of each problem, from `start` [B, K, r + 1] or from zero.

    A problem ends when its gradient is below `tolerance` times the gradient at zero. Each class of a multilabel task is
    a problem of its own.
    """
    if problem.loss == "multilabel":
        return _class_by_class(problem, start, tolerance, limit)
    absent = problem.absent
    zero = torch.zeros(len(problem.weights), problem.outputs, problem.columns.values.shape[1], dtype=torch.float64)
    reference = _objective(problem, zero, absent)[1].flatten(1).norm(dim=1).clamp(min=1e-300)
    descent = _Descent(problem, absent, zero if start is None else _admitted(start, absent))
    heads, gradients = zero.clone(), torch.zeros(len(zero), dtype=torch.float64)
    iterations = torch.zeros(len(zero), dtype=torch.long)
    left = torch.arange(len(zero))
    for iteration in range(limit + 1):
        relative = descent.gradient.flatten(1).norm(dim=1) / reference[left]
        heads[left], gradients[left], iterations[left] = descent.heads, relative, iteration
        going = relative > tolerance
        if not going.any() or iteration == limit:
            break
        if not going.all():
            descent.keep(going)
            left = left[going]
        if not descent.step():
            break
    return Solution(heads=heads, gradients=gradients, iterations=iterations)


def _class_by_class(problem: Problem, start: Tensor | None, tolerance: float, limit: int) -> Solution:
    """The minimum of a multilabel problem: each class of each of the B problems by itself, with its own steps."""
    count, classes, width = len(problem.weights), problem.outputs, problem.columns.values.shape[1]
    mixed = ~problem.absent.flatten()
    known = (problem.targets.T >= 0).repeat(count, 1)
    weights = torch.where(known, problem.weights.repeat_interleave(classes, dim=0), 0.0)
    alone = Problem(
        loss="binary", outputs=1, columns=problem.columns, targets=(problem.targets.T == 1).long().repeat(count, 1),
        weights=weights, ridges=problem.ridges.repeat_interleave(classes),
    ).part(mixed)  # fmt: skip
    heads = torch.zeros(count * classes, 1, width, dtype=torch.float64)
    gradients = torch.zeros(count * classes, dtype=torch.float64)
    iterations = torch.zeros(count * classes, dtype=torch.long)
    if mixed.any():
        own = None if start is None else start.reshape(-1, 1, width)[mixed]
        found = solve(alone, start=own, tolerance=tolerance, limit=limit)
        heads[mixed], gradients[mixed], iterations[mixed] = found.heads, found.gradients, found.iterations
    return Solution(
        heads=heads.view(count, classes, width), gradients=gradients.view(count, classes).amax(dim=1),
        iterations=iterations.view(count, classes).amax(dim=1),
    )  # fmt: skip


def _admitted(start: Tensor, absent: Tensor) -> Tensor:
    """A start with nothing for absent classes, and with the sum over classes at 0: no step can change that sum."""
    start = torch.where(absent, 0.0, start)
    if start.shape[1] == 1:
        return start
    return torch.where(absent, 0.0, start - start.sum(dim=1, keepdim=True) / (~absent).sum(dim=1, keepdim=True))


class _Descent:
    """L-BFGS on the problems that have not ended, each with a step length of its own."""

    def __init__(self, problem: Problem, absent: Tensor, start: Tensor) -> None:
        self.problem, self.absent, self.heads = problem, absent, start
        self.scale = _scale(problem)
        self.value, self.gradient = _objective(problem, start, absent)
        self.moves: list[Tensor] = []
        self.turns: list[Tensor] = []

    def keep(self, going: Tensor) -> None:
        """Drop the problems that have ended."""
        self.problem = self.problem.part(going)
        for name in ("absent", "heads", "scale", "value", "gradient"):
            setattr(self, name, getattr(self, name)[going])
        self.moves = [move[going] for move in self.moves]
        self.turns = [turn[going] for turn in self.turns]

    def step(self) -> bool:
        """One step of each problem; False when no step lowers any objective: rounding is all that is left."""
        direction = self._direction()
        slope = _dot(direction, self.gradient)
        length = torch.ones(len(slope), dtype=torch.float64)
        for _ in range(40):
            heads = self.heads + length[:, None, None] * direction
            value, gradient = _objective(self.problem, heads, self.absent)
            # near the end the value is rounding, and a smaller gradient shows the descent instead
            lower = value <= self.value + 1e-4 * length * slope
            flat = (value <= self.value + 1e-13 * self.value.abs()) & (
                _dot(gradient, direction).abs() <= 0.9 * slope.abs()
            )
            if (lower | flat).all():
                break
            length = torch.where(lower | flat, length, length / 2)
        else:
            return False
        self.moves.append(heads - self.heads)
        self.turns.append(gradient - self.gradient)
        del self.moves[:-MEMORY], self.turns[:-MEMORY]
        self.heads, self.value, self.gradient = heads, value, gradient
        return True

    def _direction(self) -> Tensor:
        """The two-loop recursion, begun with the inverse of the diagonal that `_scale` estimates."""
        direction = -self.gradient
        shares = []
        for move, turn in zip(reversed(self.moves), reversed(self.turns), strict=True):
            share = _dot(move, direction) / _dot(move, turn).clamp(min=1e-300)
            direction.addcmul_(share[:, None, None], turn, value=-1)
            shares.append(share)
        direction *= self.scale
        if self.moves:
            move, turn = self.moves[-1], self.turns[-1]
            length = _dot(move, turn) / _dot(turn, turn * self.scale).clamp(min=1e-300)
            direction *= length[:, None, None]
        for move, turn, share in zip(self.moves, self.turns, reversed(shares), strict=True):
            back = share - _dot(turn, direction) / _dot(move, turn).clamp(min=1e-300)
            direction.addcmul_(back[:, None, None], move)
        return direction


def _dot(left: Tensor, right: Tensor) -> Tensor:
    dots: Tensor = torch.linalg.vecdot(left.flatten(1), right.flatten(1))
    return dots


def _scale(problem: Problem) -> Tensor:
    """The inverse of an estimate of the curvature along each column, [B, 1, r + 1]."""
    curvature = {"binary": 0.25, "categorical": 1 / max(2, problem.outputs)}.get(problem.loss, 1.0)
    moments = curvature * problem.weights.sum(dim=1)[:, None] * problem.columns.moments
    bias = torch.full((len(moments), 1), curvature, dtype=torch.float64)
    return torch.cat([1 / (moments + problem.ridges[:, None]), 1 / bias], dim=1)[:, None, :]


def _logits(problem: Problem, heads: Tensor, absent: Tensor) -> Tensor:
    """Outputs [B, K, n]."""
    logits = (heads.flatten(0, 1) @ problem.columns.values.T).view(*heads.shape[:2], -1)
    return logits.masked_fill(absent, -torch.inf) if absent.any() else logits


def _losses(problem: Problem, logits: Tensor) -> Tensor:
    if problem.loss == "categorical":
        picked = logits.gather(1, problem.targets.expand(len(logits), 1, -1))[:, 0]
        return logits.logsumexp(dim=1) - picked
    if problem.loss == "multilabel":
        known = (problem.targets.T[None] >= 0) & torch.isfinite(logits)
        return masked_logistic(logits, problem.targets.T.double().expand_as(logits), known).sum(dim=1)
    targets = problem.targets.double().expand(len(logits), -1)
    if problem.loss == "binary":
        return functional.binary_cross_entropy_with_logits(logits[:, 0], targets, reduction="none")
    if problem.loss == "huber":
        return functional.huber_loss(logits[:, 0], targets, reduction="none")
    return 0.5 * (logits[:, 0] - targets) ** 2


def _slopes(problem: Problem, logits: Tensor) -> Tensor:
    """The derivative [B, K, n] of each label's loss by its outputs."""
    if problem.loss == "categorical":
        slopes = logits.softmax(dim=1)
        return slopes.scatter_add_(1, problem.targets.expand(len(logits), 1, -1), -torch.ones_like(slopes[:, :1]))
    targets = problem.targets.double()
    if problem.own_targets:
        return logits.sigmoid() - targets[:, None]
    if problem.loss == "binary":
        return logits.sigmoid() - targets
    return (logits - targets).clamp(-1, 1) if problem.loss == "huber" else logits - targets


def _objective(problem: Problem, heads: Tensor, absent: Tensor) -> tuple[Tensor, Tensor]:
    """The objective [B] and its gradient [B, K, r + 1]."""
    logits = _logits(problem, heads, absent)
    losses = torch.where(problem.weights > 0, _losses(problem, logits), 0.0)
    shrunk = heads * problem.ridges[:, None, None]
    shrunk[:, :, -1] = 0
    value = (losses * problem.weights).sum(dim=1) + 0.5 * _dot(shrunk, heads)
    slopes = _slopes(problem, logits) * problem.weights[:, None, :]
    gradient = (slopes.flatten(0, 1) @ problem.columns.values).view_as(heads)
    return value, torch.where(absent, 0.0, gradient + shrunk)
