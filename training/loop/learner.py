"""One step of a training: forward, masked losses, backward, the sum over ranks, and the optimiser."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from curation.arrays import Ints
from curation.errors import BadInput
from samplers.plan.plan import PlanTask
from training.loop.affinity import TaskAffinity
from training.loop.gradient_norms import GradientNorms
from training.loop.optimise import optimiser_of
from training.loop.ranks import Ranks
from training.network.losses import SoftLabels
from training.network.model import Network
from training.network.objects import Objects
from training.network.tree_network import TreeNetwork
from training.recipe import Recipe

__all__ = ["Diverged", "Draws", "Learner", "Step"]


class Diverged(BadInput):
    """A loss is not finite: the learning rate is too high, or a label is wrong."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """B draws of this rank, on its device: inputs [B, ...], values, known and weights [B, T], keys and positions.

    `presence` [B, M] int8 holds the classes of multilabel tasks, as in `Batch`, and `objects` the boxes of tasks of
    boxes; None without such a task. `soft` are labels of tasks that learn from another head.
    """

    inputs: Tensor
    values: Tensor
    known: Tensor
    weights: Tensor
    keys: Sequence[str]
    positions: Ints
    soft: SoftLabels | None = None
    presence: Tensor | None = None
    objects: Objects | None = None

    def part(self, rows: slice) -> "Draws":
        """Some of the draws."""
        soft = self.soft and SoftLabels(targets=self.soft.targets[rows], learned=self.soft.learned)
        return Draws(
            inputs=self.inputs[rows], values=self.values[rows], known=self.known[rows], weights=self.weights[rows],
            keys=self.keys[rows], positions=self.positions[rows], soft=soft,
            presence=None if self.presence is None else self.presence[rows],
            objects=self.objects and self.objects.part(rows),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a step found: the losses [T] of the global batch, this rank's outputs, whether the gradient was clipped."""

    losses: Tensor
    outputs: Tensor
    clipped: bool
    stop: bool


class Learner:
    """A network with its optimiser. `weights` [T] multiply the losses: importances, 0 for a task that is frozen."""

    def __init__(self, recipe: Recipe, network: Network | TreeNetwork, tasks: Sequence[PlanTask], ranks: Ranks) -> None:
        parts = ranks.world * recipe.accumulate
        if recipe.global_batch % parts:
            raise BadInput(
                f"recipe: global_batch = {recipe.global_batch} is no multiple of {ranks.world} ranks times "
                f"accumulate = {recipe.accumulate}; take {max(1, recipe.global_batch // parts) * parts}"
            )
        self.recipe, self.network, self.tasks, self.ranks = recipe, network, tasks, ranks
        self.optimiser = optimiser_of(recipe, network, [task.name for task in tasks])
        self.weights = network.losses.importances.clone()
        watched = recipe.balance != "none" or recipe.clip > 0
        self.norms = GradientNorms(network) if watched and isinstance(network, TreeNetwork) else None
        self.affinity = TaskAffinity(network) if len(tasks) > 1 else None
        self.only: frozenset[int] | None = None
        """The tasks (codes) whose outputs are computed; None for all."""
        self._bf16 = ranks.device.type == "cuda"
        self._by_rows = ranks.device.type == "cpu" and not recipe.compile
        """Whether what reads unknown labels alone is left out: shapes then differ from step to step."""
        self.train()

    def train(self) -> None:
        """Training mode; batch statistics stay those that a trunk came with, because they would follow the mixture."""
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def factors(self) -> Tensor:
        """What multiplies each task's weight now [T]."""
        if self.norms is None or self.recipe.balance == "none":
            return torch.ones_like(self.weights)
        return self.norms.factors()

    def step(self, draws: Draws, number: int, share: float, *, stop: bool = False) -> Step:
        """Learn from these draws at `share` of the learning rate, as step `number`.

        A global batch without a known label changes nothing. `stop` on any rank is `Step.stop` on all. Diverged where a
        loss is not finite: it names the task, the step and the samples, and nothing has been learned from them.
        """
        for parameter in self.optimiser.parameters:
            parameter.grad = None
        weights = self.weights * self.factors()
        affinity = self.affinity if self.affinity and self.affinity.watches(number) else None
        outputs, losses, squares, agreed = self._backward(draws, weights, affinity)
        flags = torch.stack([draws.known.any().float(), torch.tensor(float(stop), device=losses.device)])
        gradients = [p.grad for p in self.optimiser.parameters if p.grad is not None]
        self.ranks.sum_([*gradients, losses, squares, flags, *([] if agreed is None else [agreed])])
        if not bool(torch.isfinite(losses).all()):
            raise Diverged(self._not_finite(draws, outputs, losses, number))
        known, stopped = (float(flag) for flag in flags)
        clipped = False
        if known:
            if self.recipe.clip:
                norm = nn.utils.clip_grad_norm_(self.optimiser.parameters, self.recipe.clip)
                clipped = float(norm) > self.recipe.clip
            self.optimiser.step(share)
            if self.norms is not None:
                self.norms.add(squares)
            if affinity and agreed is not None:
                affinity.add(agreed)
        return Step(losses=losses, outputs=outputs, clipped=clipped, stop=stopped > 0)

    def _backward(
        self, draws: Draws, weights: Tensor, affinity: TaskAffinity | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Outputs [B, O], losses [T] and squared gradient norms [T] of this rank's draws, in `accumulate` parts; and
        what they add to an `affinity` that watches them."""
        count, parts = len(draws.values), self.recipe.accumulate
        found, losses, squares = [], torch.zeros_like(weights), torch.zeros_like(weights)
        agreed = torch.zeros_like(affinity.sums) if affinity else None
        for at in range(0, count, count // parts):
            part = draws.part(slice(at, at + count // parts)) if parts > 1 else draws
            outputs = self._outputs(part)
            if self.norms is not None or affinity:
                outputs.retain_grad()
            own = self.network.losses(
                outputs, part.values, part.known, part.weights, total=self.recipe.global_batch, soft=part.soft,
                presence=part.presence,
                objects=part.objects,
            )  # fmt: skip
            objective = own @ weights
            if objective.requires_grad:
                objective.backward()
            if self.norms is not None and outputs.grad is not None:
                squares += self.norms.of(outputs.grad, weights)
            if affinity and agreed is not None and outputs.grad is not None:
                agreed += affinity.of(outputs.grad, part.known)
            losses += own.detach()
            found.append(outputs.detach())
        return torch.cat(found) if parts > 1 else found[0], losses, squares, agreed

    def _outputs(self, draws: Draws) -> Tensor:
        autocast = torch.autocast("cuda", torch.bfloat16) if self._bf16 else contextlib.nullcontext()
        with autocast:
            if isinstance(self.network, TreeNetwork):
                known = draws.known if self._by_rows else None
                outputs: Tensor = self.network(draws.inputs, draws.positions, only=self.only, known=known)
            else:
                outputs = self.network(draws.inputs)
        return outputs.float()

    def _not_finite(self, draws: Draws, outputs: Tensor, losses: Tensor, number: int) -> str:
        """One line for the first task whose loss is not finite, equal on all ranks."""
        task = int(torch.isfinite(losses).logical_not().nonzero()[0])
        column = int((self.network.losses.group_order == task).nonzero()[0])
        each = self.network.losses.each(outputs, draws.values, draws.soft, draws.presence, draws.objects)[:, column]
        each = each * draws.weights[:, task]
        wrong = (~torch.isfinite(each) & draws.known[:, task]).nonzero().flatten().tolist()
        keys = [key for part in self.ranks.gather([draws.keys[row] for row in wrong]) for key in part]
        names = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        return (
            f"task {self.tasks[task].name}: its loss is not finite at step {number}, on {names or 'no sample alone'}; "
            "lower the learning rate, or look at these samples"
        )
