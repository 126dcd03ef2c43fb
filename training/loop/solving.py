"""A run whose heads learn without draws: from the plan's labels to a network, starting at the last round's heads."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from curation.catalog.catalog import Catalog
from curation.files.progress import LossProgress
from curation.images.embeddings import Embeddings
from samplers.plan.plan import Plan, PlanTask
from training.loop.alarms import solved_alarms
from training.loop.exact_heads import Start
from training.loop.solved_heads import SolvedHeads, solve_heads
from training.loop.task_labels import groups_of, task_labels
from training.network.model import Beside, Network, build, load_network
from training.recipe import Recipe
from training.run import Head, Run

__all__ = ["solve_plan"]


def solve_plan(
    recipe: Recipe, plan: Plan, catalog: Catalog, parent: str, progress: LossProgress | None = None
) -> tuple[Network, list[Head], list[str]]:
    """The network of `recipe` on `plan`, how each head was learned, and the alarms.

    Heads follow those of the run `parent`, if it has the same features: an exact head begins where it ended, and the
    choice between exact and shared is kept while there are few new labels. `progress` is called with the
    steps done, all steps, and 0. BadInput for a vector that is not finite.
    """
    embeddings = Embeddings.open(catalog.home, recipe.embeddings)
    trunk = build(recipe, plan.tasks, embeddings).trunk
    features = _features(trunk, embeddings, plan.keys.to_pylist())
    with catalog.read(plan.commit) as then:
        labels = task_labels(plan, groups_of(then, plan))
    starts = _starts(recipe, Run.open(catalog.home, parent), plan.tasks, catalog.home) if parent else {}
    solved = solve_heads(
        recipe, labels, features, starts=starts,
        progress=(lambda done, total: progress(done, total, 0.0)) if progress else None,
    )  # fmt: skip
    units = recipe.units * len({layer.epochs for layer in solved.shared.values()})
    network = build(recipe, plan.tasks, embeddings, beside=units)
    _fill(network, plan.tasks, solved)
    return network, solved.records, solved_alarms(labels, solved.records, network, features)


def _features(trunk: torch.nn.Module, embeddings: Embeddings, keys: list[str]) -> Tensor:
    """Standardised vectors [S, D] float32 of the plan's samples."""
    with torch.no_grad():
        features: Tensor = trunk(torch.from_numpy(embeddings.of(keys)))
    return features


def _starts(recipe: Recipe, parent: Run, tasks: Sequence[PlanTask], home: Path) -> dict[str, Start]:
    """The heads of an earlier run for the same tasks and features; its choices too, if its recipe is the same."""
    if parent.recipe.embeddings != recipe.embeddings:
        return {}
    theirs = Plan.open(home, parent.plan).tasks
    network = load_network(parent, theirs, home)
    same = parent.recipe == recipe
    records = {
        head.task: head if same else replace(head, compared=0) for head in parent.heads if head.kind != "constant"
    }
    columns = {task.task: network.losses.layout.columns[code] for code, task in enumerate(theirs)}
    weights, biases = network.heads.weight.detach().double(), network.heads.bias.detach().double()
    return {
        task.name: Start(
            record=records[task.name], weights=weights[columns[task.task], : network.width],
            biases=biases[columns[task.task]],
        )
        for task in tasks
        if task.task in columns and task.name in records
    }  # fmt: skip


@torch.no_grad()
def _fill(network: Network, tasks: Sequence[PlanTask], solved: SolvedHeads) -> None:
    """Write the heads into the network: exact ones read the features alone, the others their checkpoint's units."""
    width = network.width
    spans: dict[int, slice] = {}
    for epochs, layer in sorted({layer.epochs: layer for layer in solved.shared.values()}.items()):
        units = len(layer.hidden)
        spans[epochs] = slice(len(spans) * units, (len(spans) + 1) * units)
        assert isinstance(network.branch, Beside)
        network.branch.hidden.weight[spans[epochs]] = layer.hidden
        network.branch.hidden.bias[spans[epochs]] = layer.hidden_bias
    for code, task in enumerate(tasks):
        rows = network.losses.layout.columns[code]
        if task.name in solved.shared:
            layer = solved.shared[task.name]
            span = spans[layer.epochs]
            network.heads.weight[rows, width + span.start : width + span.stop] = layer.heads[rows]
            network.heads.bias[rows] = layer.biases[rows]
        else:
            network.heads.weight[rows, :width] = solved.exact[task.name].weights.float()
            network.heads.bias[rows] = solved.exact[task.name].biases.float()
