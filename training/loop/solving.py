"""A run whose heads learn without draws: from the plan's labels to a network, starting at the last round's heads."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from curation.catalog.catalog import Catalog
from curation.files.progress import LossProgress
from curation.images.embeddings import Embeddings
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan, PlanTask
from samplers.streaming.frame_pairs import pairs_of
from training.evaluation.pair_inputs import vectors_of
from training.loop.alarms import solved_alarms
from training.loop.exact_heads import Start
from training.loop.solved_heads import SolvedHeads, solve_heads
from training.loop.solved_only import solve_only, starts_of
from training.loop.task_labels import TaskLabels, groups_of, task_labels
from training.network.losses import Layout
from training.network.model import Beside, Network, build
from training.recipe import Recipe
from training.run import Head, Run

__all__ = ["solve_plan"]


def solve_plan(
    recipe: Recipe, plan: Plan, catalog: Catalog, parent: str, progress: LossProgress | None = None
) -> tuple[Network, list[Head], list[str]]:
    """The network of `recipe` on `plan`, how each head was learned, and the alarms.

    Heads follow those of the run `parent`, if it has the same features: an exact head begins where it ended, and the
    choice between exact and shared is kept while there are few new labels. `progress` is called with the
    steps done, all steps, and 0. BadInput for a vector that is not finite. With `only`, the heads of the other tasks
    and the shared layer are those of the parent, to the bit.
    """
    embeddings = Embeddings.open(catalog.home, recipe.embeddings)
    pairs = pairs_of(plan, catalog.home, Pack.open(catalog.home, plan.pack_hash))
    with torch.no_grad():
        vectors = vectors_of(embeddings, plan.keys.to_pylist(), pairs)
        features = build(recipe, plan.tasks, embeddings).features(vectors)
    with catalog.read(plan.commit) as then:
        labels = task_labels(plan, groups_of(then, plan))
    if recipe.only:
        return solve_only(recipe, plan, labels, features, catalog.home, parent, progress)
    starts = starts_of(recipe, Run.open(catalog.home, parent), plan.tasks, catalog.home) if parent else {}
    solved = _solved(recipe, labels, features, len(embeddings.mean), starts, progress)
    units = recipe.units * len({layer.epochs for layer in solved.shared.values()})
    network = build(recipe, plan.tasks, embeddings, beside=units)
    _fill(network, plan.tasks, solved)
    return network, solved.records, solved_alarms(labels, solved.records, network, features)


def _solved(
    recipe: Recipe, labels: Sequence[TaskLabels], features: Tensor, width: int, starts: Mapping[str, Start],
    progress: LossProgress | None,
) -> SolvedHeads:  # fmt: skip
    """The heads of all tasks: on features [S, D], and of tasks that read two frames on pairs of them, always exact."""
    one, two = ([part for part in labels if (part.task.task.inputs == 2) == paired] for paired in (False, True))
    steps = 0

    def tell(done: int, total: int) -> None:
        if progress:
            progress(steps + done, steps + total + len(two) * (not steps), 0.0)

    found = SolvedHeads(exact={}, shared={}, records=[])
    if one:
        found = solve_heads(recipe, one, features[:, :width], starts=starts, progress=tell)
    if two:
        steps = len(one)
        more = solve_heads(replace(recipe, heads="exact"), two, features, starts=starts, progress=tell)
        found = SolvedHeads(
            exact={**found.exact, **more.exact}, shared=found.shared, records=[*found.records, *more.records]
        )
    order = [part.task.name for part in labels]
    return replace(found, records=sorted(found.records, key=lambda record: order.index(record.task)))


@torch.no_grad()
def _fill(network: Network, tasks: Sequence[PlanTask], solved: SolvedHeads) -> None:
    """Write the heads into the network: exact ones read the features alone, the others their checkpoint's units."""
    width = network.width
    spans: dict[int, slice] = {}
    one = [task for task in tasks if task.task.inputs == 1]
    of_layer = {task.name: Layout(one).columns[code] for code, task in enumerate(one)}
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
            network.heads.weight[rows, width + span.start : width + span.stop] = layer.heads[of_layer[task.name]]
            network.heads.bias[rows] = layer.biases[of_layer[task.name]]
        else:
            weights = solved.exact[task.name].weights.float()
            network.heads.weight[rows, :width] = weights[:, :width]
            network.heads.bias[rows] = solved.exact[task.name].biases.float()
            if task.task.inputs == 2:
                assert network.before
                network.before.weight[rows] = weights[:, width:]
