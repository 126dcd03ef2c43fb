"""One hidden layer for all tasks on frozen features, trained over epochs of the plan's labels.

It minimises the plan's objective, the sum over tasks of importance / c_t times the sum over labels of q_t(i) loss_t(i),
by AdamW, whose steps follow the scale of each head's gradient. An epoch takes every labelled image once, in a hashed
order; shares of draws play no part. Order and dropout are hashes of (seed, position, layer), never a generator's state.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from curation.arrays import Ints
from curation.catalog.presence import UNSEEN
from samplers.plan.interleave import hash64
from samplers.plan.plan import PlanTask
from samplers.plan.presence import class_spans
from training.loop.task_labels import TaskLabels
from training.network.dropout import dropout_mask
from training.network.losses import TaskLosses
from training.recipe import Recipe

__all__ = ["CHECKPOINTS", "SharedLayer", "Table", "epochs_of", "steps_an_epoch", "table_of", "train_shared"]


BATCH = 64
STEPS = 300
"""Few labels are trained on for more epochs than the recipe's, up to this many steps."""

RATE, DECAY, WARMUP, DROPOUT = 1e-3, 0.01, 0.05, 0.3

CHECKPOINTS = (0.25, 0.5, 0.75, 1.0)
"""Parts of the epochs after which a task's head, with the hidden layer of that moment, may be taken."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The labels of all T tasks on their N labelled images: float32 [N, T], 0 where unknown.

    `presence` [N, M] int8 are the classes of multilabel tasks, as in `Batch`.

    `rows` [N] are rows of the plan's samples. `weights` are N q_t, so that the mean over images is the sum over labels.
    """

    rows: Ints
    values: Tensor
    known: Tensor
    weights: Tensor
    presence: Tensor

    def part(self, chosen: npt.NDArray[np.bool_]) -> "Table":
        """Some of the images, with weights that again sum to their number in every task that has a label there."""
        keep = torch.from_numpy(chosen)
        weights = self.weights[keep]
        weights = weights * (len(weights) / weights.sum(dim=0).clamp(min=1e-30))
        return Table(
            rows=self.rows[chosen], values=self.values[keep], known=self.known[keep], weights=weights,
            presence=self.presence[keep],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SharedLayer:
    """A hidden layer [U, D] with its bias [U], and all heads [O, U] with theirs [O], after some epochs."""

    epochs: int
    hidden: Tensor
    hidden_bias: Tensor
    heads: Tensor
    biases: Tensor

    @torch.no_grad()
    def outputs(self, features: Tensor) -> Tensor:
        """Outputs [n, O] for features [n, D] float32."""
        seen = functional.relu(functional.linear(features, self.hidden, self.hidden_bias))
        return functional.linear(seen, self.heads, self.biases)


def table_of(labels: Sequence[TaskLabels]) -> Table:
    """The labels of all tasks, by image."""
    rows = np.unique(np.concatenate([part.rows for part in labels]))
    values, weights = (np.zeros((len(rows), len(labels)), np.float32) for _ in range(2))
    known = np.zeros(values.shape, np.bool_)
    spans = class_spans([part.task.task for part in labels])
    presence = np.full((len(rows), max((span.stop for span in spans.values()), default=0)), UNSEEN, np.int8)
    for column, part in enumerate(labels):
        here = np.searchsorted(rows, part.rows)
        raw = part.values * part.task.deviation + part.task.mean if part.numeric else part.values
        values[here, column], known[here, column] = raw, True
        weights[here, column] = part.weights * len(rows)
        if part.presence is not None:
            presence[here, spans[column]] = part.presence
    return Table(
        rows=rows, values=torch.from_numpy(values), known=torch.from_numpy(known), weights=torch.from_numpy(weights),
        presence=torch.from_numpy(presence),
    )  # fmt: skip


def epochs_of(recipe: Recipe, images: int) -> int:
    """The recipe's epochs; more where these are fewer than `STEPS` steps."""
    return max(recipe.epochs, math.ceil(STEPS / steps_an_epoch(images)))


def steps_an_epoch(images: int) -> int:
    """How many steps take each of so many images once."""
    return math.ceil(images / BATCH)


def train_shared(
    recipe: Recipe, tasks: Sequence[PlanTask], table: Table, features: Tensor, *, epochs: int = 0
) -> list[SharedLayer]:
    """The layer at each of `CHECKPOINTS`, trained on `features` [N, D] float32 of the images of `table`.

    `epochs` 0 are those of `epochs_of`.
    """
    images, width = features.shape
    scale = float((width / (features**2).sum(dim=1).mean().clamp(min=1e-12)).sqrt())
    losses = TaskLosses(tasks)
    hidden, heads = _layers(recipe, width, losses.layout.outputs)
    parameters = [*hidden.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY, fused=True)
    epochs = epochs or epochs_of(recipe, images)
    steps = epochs * steps_an_epoch(images)
    wanted = {max(1, round(part * epochs)) for part in CHECKPOINTS}
    found, step = [], 0
    for epoch in range(epochs):
        order = np.argsort(hash64(recipe.seed, np.arange(images) + epoch * images), kind="stable")
        for start in range(0, images, BATCH):
            chosen = torch.from_numpy(order[start : start + BATCH])
            position = epoch * images + start
            optimizer.param_groups[0]["lr"] = RATE * _schedule(step, steps)
            seen = functional.relu(hidden(features[chosen] * scale))
            mask = dropout_mask(recipe.seed, position + np.arange(len(chosen)), recipe.units, DROPOUT)
            outputs = heads(seen * mask)
            each = losses(
                outputs, table.values[chosen], table.known[chosen], table.weights[chosen],
                presence=table.presence[chosen],
            )  # fmt: skip
            optimizer.zero_grad()
            losses.objective(each).backward()
            optimizer.step()
            step += 1
        if epoch + 1 in wanted:
            copies = [part.detach().clone() for part in (hidden.weight * scale, hidden.bias, heads.weight, heads.bias)]
            found.append(
                SharedLayer(
                    epochs=epoch + 1, hidden=copies[0], hidden_bias=copies[1], heads=copies[2], biases=copies[3]
                )
            )
    return found


def _layers(recipe: Recipe, width: int, outputs: int) -> tuple[nn.Linear, nn.Linear]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        hidden, heads = nn.Linear(width, recipe.units), nn.Linear(recipe.units, outputs)
    nn.init.zeros_(heads.weight)
    nn.init.zeros_(heads.bias)
    return hidden, heads


def _schedule(step: int, steps: int) -> float:
    """The share of the rate at a step: a short warm-up, then a cosine to 0."""
    return min(1.0, (step + 1) / max(1, WARMUP * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
