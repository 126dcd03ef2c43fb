"""Which tasks help or harm each other: each task alone beside each pair of them, trained with the same seeds.

A training is one hidden layer on frozen features (`training.loop.shared_layer`), for one task or for two. The effect of
a partner on a task is the task's figure together minus its figure alone, paired by seed and by label.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from curation.arrays import Floats, Ints
from curation.errors import BadInput
from curation.files.progress import Progress
from training.dynamics.effects import Effect, Effects
from training.evaluation.paired import SeedValues, estimate
from training.loop.shared_layer import SharedLayer, epochs_of, steps_an_epoch, table_of, train_shared
from training.loop.task_labels import TaskLabels
from training.network.losses import Layout
from training.recipe import Recipe

__all__ = ["DIRECTIONS", "JudgedTask", "compressed", "measure_pairs", "subset_values"]

DIRECTIONS = 256
"""Principal directions of the features that pairs are trained on."""

STEPS = 2_000
"""The training of any pair takes at most about so many steps: fewer epochs than the recipe's where images are many."""


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedTask:
    """A task with the labels that it learns from, and the n others that judge it.

    `features` [n, D] are those of the judged images, in the directions of those that it learns from. `points` gives for
    outputs [n, K] what each label counts: 100 where the answer is right, or minus 100 times the error over that of the
    best constant; more is better. `weights`, `groups` and `strata` [n] are as in `SeedValues`.
    """

    labels: TaskLabels
    features: Tensor
    points: Callable[[Tensor], Floats]
    weights: Floats
    groups: Ints
    strata: Ints

    @property
    def name(self) -> str:
        """The task's name."""
        return self.labels.task.name


def measure_pairs(
    recipe: Recipe, tasks: Sequence[JudgedTask], features: Tensor, *, seeds: Sequence[int], split: str = "test",
    progress: Progress | None = None,
) -> Effects:  # fmt: skip
    """Train each task alone and each pair with each seed on `features` [S, D] of the samples of their labels.

    The interval of an effect covers the seeds and the groups of judged images. The variance between seeds is pooled
    over the partners of a task, whose trainings alone are the same: with S seeds and P partners it has
    (S - 1) / (1 / P + (1 - 1 / P) / 4) degrees of freedom, since two differences correlate by one half. `progress` is
    called with the trainings done and all. BadInput for fewer than two tasks, and for no seed.
    """
    if len(tasks) < 2:
        given = ", ".join(task.name for task in tasks) or "none"
        raise BadInput(f"tasks {given}: a pair takes two tasks with labels to learn from and to judge by; add one")
    if not seeds:
        raise BadInput("seeds: none given; name at least one")
    epochs = _epochs(recipe, tasks)
    alone: dict[int, SeedValues] = {}
    both: dict[tuple[int, int], SeedValues] = {}
    arms = [(code,) for code in range(len(tasks))] + list(combinations(range(len(tasks)), 2))
    for done, arm in enumerate(arms):
        own = [tasks[code] for code in arm]
        found = subset_values(recipe, own, features, seeds=seeds, epochs=epochs)
        for code, values in zip(arm, found, strict=True):
            if len(arm) == 1:
                alone[code] = values
            else:
                both[code, arm[0] + arm[1] - code] = values
        if progress:
            progress((done + 1) * len(seeds), len(arms) * len(seeds))
    names = tuple(task.name for task in tasks)
    return Effects(
        tasks=names, seeds=tuple(seeds), split=split, features=recipe.embeddings,
        alone={names[code]: float(values.by_seed().mean()) for code, values in alone.items()},
        labels={task.name: len(task.labels.rows) for task in tasks},
        judged={task.name: len(task.weights) for task in tasks},
        groups={task.name: len(np.unique(task.groups)) for task in tasks},
        effects=tuple(_effects(names, alone, both)),
    )  # fmt: skip


def subset_values(
    recipe: Recipe, tasks: Sequence[JudgedTask], features: Tensor, *, seeds: Sequence[int], epochs: int
) -> list[SeedValues]:
    """The points of each of these tasks, learned on one layer over so many `epochs`, with each seed."""
    labels = [task.labels for task in tasks]
    table, layout = table_of(labels), Layout([part.task for part in labels])
    own = features[torch.from_numpy(table.rows)]
    found: list[list[Floats]] = [[] for _ in tasks]
    for seed in seeds:
        seeded = replace(recipe, seed=seed)
        layer = train_shared(seeded, [part.task for part in labels], table, own, epochs=epochs)[-1]
        for code, values in enumerate(_points(tasks, layout, layer)):
            found[code].append(values)
    return [
        SeedValues(values=np.stack(values), weights=task.weights, groups=task.groups, strata=task.strata)
        for task, values in zip(tasks, found, strict=True)
    ]


def compressed(features: Tensor, others: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """`features` [S, D] and `others` [n, D] in the `DIRECTIONS` principal directions of the first, centred there.

    A training then takes a tenth of the time. Features with fewer columns stay as they are.
    """
    if features.shape[1] <= DIRECTIONS:
        return features, list(others)
    mean = features.mean(dim=0)
    centred = (features - mean).double()
    second = centred.T @ centred if len(centred) >= centred.shape[1] else centred @ centred.T
    values, vectors = torch.linalg.eigh(second)
    top = vectors[:, -DIRECTIONS:]
    if len(centred) < centred.shape[1]:
        top = centred.T @ top / values[-DIRECTIONS:].clamp(min=1e-12).sqrt()
    return ((features - mean) @ top.float()), [(part - mean) @ top.float() for part in others]


def _epochs(recipe: Recipe, tasks: Sequence[JudgedTask]) -> int:
    """How often every training takes each image, alone and in a pair: as the recipe says, or more often where a task of
    median size has few labels."""
    images = sorted(len(task.labels.rows) for task in tasks)
    largest = len(
        np.union1d(*[task.labels.rows for task in sorted(tasks, key=lambda task: len(task.labels.rows))[-2:]])
    )
    return max(1, min(epochs_of(recipe, images[len(images) // 2]), STEPS // steps_an_epoch(largest)))


def _points(tasks: Sequence[JudgedTask], layout: Layout, layer: SharedLayer) -> Iterator[Floats]:
    for code, task in enumerate(tasks):
        yield task.points(layer.outputs(task.features)[:, layout.columns[code]])


def _effects(
    names: Sequence[str], alone: Mapping[int, SeedValues], both: Mapping[tuple[int, int], SeedValues]
) -> Iterator[Effect]:
    """The effect of each ordered pair, with simultaneous intervals."""
    level = 1 - 0.05 / len(both)
    for code, name in enumerate(names):
        gaps = {partner: values.minus(alone[code]) for (task, partner), values in both.items() if task == code}
        spread = _spread([gap.by_seed() for gap in gaps.values()])
        for partner, gap in sorted(gaps.items()):
            found = estimate([gap], level=level, spread=spread)
            yield Effect(task=name, partner=names[partner], gain=found.value, low=found.low, high=found.high)


def _spread(gaps: Sequence[Floats]) -> tuple[float, float]:
    """The variance of one seed's difference, pooled over the partners of a task, and its degrees of freedom."""
    seeds, partners = len(gaps[0]), len(gaps)
    if seeds < 2:
        return 0.0, 0
    freedom = (seeds - 1) / (1 / partners + (1 - 1 / partners) / 4)
    return float(np.mean([gap.var(ddof=1) for gap in gaps])), freedom
