"""Heads of some tasks solved again on a run's features and shared layer; everything else is that run's, to the bit."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from curation.errors import BadInput
from curation.files.progress import LossProgress
from curation.images.embeddings import Embeddings
from samplers.plan.plan import Plan, PlanTask
from training.loop.alarms import solved_alarms
from training.loop.exact_heads import Start, exact_head
from training.loop.task_labels import TaskLabels
from training.network.model import Beside, Network, build, load_network
from training.network.take_over import take_over
from training.recipe import Recipe
from training.run import Head, Run

__all__ = ["solve_only", "starts_of"]


def solve_only(
    recipe: Recipe, plan: Plan, labels: Sequence[TaskLabels], features: Tensor, home: Path, parent: str,
    progress: LossProgress | None = None,
) -> tuple[Network, list[Head], list[str]]:  # fmt: skip
    """The network of the run `parent` in which the heads of the tasks `recipe.only` are solved on the plan's labels.

    `labels` are those of all tasks of the plan, `features` [S, D] those of its samples. A head that read the shared
    layer reads it still; a task that the parent had not gets a head on the features. The heads of all other tasks are
    the parent's, to the bit. Returns what `solve_plan` does, with alarms of the solved heads alone. BadInput where the
    parent does not fit.
    """
    before = _parent(recipe, plan, home, parent)
    kept = {head.task: head for head in before.heads}
    network = build(recipe, plan.tasks, Embeddings.open(home, recipe.embeddings), beside=before.shared_units).eval()
    _keep(network, plan.tasks, before, home, recipe.only)
    starts, records = starts_of(recipe, before, plan.tasks, home), list[Head]()
    for code, part in enumerate(labels):
        name = part.task.name
        if name not in recipe.only:
            records.append(kept[name])
        elif name in kept and kept[name].kind == "shared":
            records.append(_on_layer(network, code, part, features, before, kept[name]))
        else:
            records.append(_on_features(network, code, part, features, recipe, starts.get(name)))
        if progress:
            progress(len(records), len(labels), 0.0)
    alarms = solved_alarms(labels, records, network, features)
    return network, records, [line for line in alarms if line.partition(":")[0] in recipe.only]


def _parent(recipe: Recipe, plan: Plan, home: Path, parent: str) -> Run:
    """The run to continue; BadInput where a task is unknown, or the run was learned by another recipe."""
    only, names = ", ".join(recipe.only), [task.name for task in plan.tasks]
    if wrong := [name for name in recipe.only if name not in names]:
        raise BadInput(f"only {wrong[0]}: is no task of the plan ({', '.join(names)}); correct it")
    if not parent:
        raise BadInput(f"only {only}: has no run to start from; name one with --parent")
    before = Run.open(home, parent)
    if replace(before.recipe, only=()) != replace(recipe, only=()):
        raise BadInput(f"only {only}: run {before.id} was learned by another recipe; continue it with its own")
    return before


@torch.no_grad()
def _keep(network: Network, tasks: Sequence[PlanTask], before: Run, home: Path, only: tuple[str, ...]) -> None:
    """Copy the layer, the heads and the units of numbers of a run; BadInput where a task outside `only` has no head."""
    changed = take_over(network, tasks, before, home)
    if wrong := [line for line in changed if line.partition(":")[0] not in only]:
        raise BadInput(f"run {before.id}: {wrong[0]}; name that task in `only` too, or train all")
    theirs = Plan.open(home, before.plan).tasks
    old = load_network(before, theirs, home)
    codes = {task.name: code for code, task in enumerate(theirs)}
    for code, task in enumerate(tasks):
        if task.name in only:
            continue
        for name in ("means", "deviations"):
            getattr(network.losses, name)[code] = getattr(old.losses, name)[codes[task.name]]
        if network.before is not None and old.before is not None:
            mine, rows = network.losses.layout.columns[code], old.losses.layout.columns[codes[task.name]]
            network.before.weight[mine] = old.before.weight[rows]


@torch.no_grad()
def _on_features(
    network: Network, code: int, part: TaskLabels, features: Tensor, recipe: Recipe, start: Start | None
) -> Head:
    """Write the exact head of a task into the network."""
    paired, width = part.task.task.inputs == 2, network.width
    own = features[torch.from_numpy(part.rows)]
    found = exact_head(
        part, (own if paired else own[:, :width]).double(), seed=recipe.seed, huber=recipe.huber,
        start=start if start and start.record.kind == "exact" and len(start.biases) == part.outputs else None,
    )  # fmt: skip
    rows, weights = network.losses.layout.columns[code], found.weights.float()
    network.heads.weight[rows] = 0.0
    network.heads.weight[rows, :width], network.heads.bias[rows] = weights[:, :width], found.biases.float()
    if network.before is not None:
        network.before.weight[rows] = weights[:, width:] if paired else 0.0
    return found.record


@torch.no_grad()
def _on_layer(network: Network, code: int, part: TaskLabels, features: Tensor, before: Run, kept: Head) -> Head:
    """Write a head that is solved on the units of its layer, which stays, into the network."""
    assert isinstance(network.branch, Beside)
    units, place = before.recipe.units, before.layers.index(kept.epochs)
    span = slice(place * units, (place + 1) * units)
    hidden = network.branch.hidden
    own = features[torch.from_numpy(part.rows), : network.width]
    seen = functional.relu(functional.linear(own, hidden.weight[span], hidden.bias[span]))
    found = exact_head(part, seen.double(), seed=before.recipe.seed, huber=before.recipe.huber)
    rows = network.losses.layout.columns[code]
    network.heads.weight[rows] = 0.0
    network.heads.weight[rows, network.width + span.start : network.width + span.stop] = found.weights.float()
    network.heads.bias[rows] = found.biases.float()
    return replace(found.record, kind="shared", epochs=kept.epochs, part=kept.part)


def starts_of(recipe: Recipe, parent: Run, tasks: Sequence[PlanTask], home: Path) -> dict[str, Start]:
    """The heads of an earlier run for the same tasks and features; its choices too, if its recipe is the same."""
    if parent.recipe.embeddings != recipe.embeddings:
        return {}
    theirs = Plan.open(home, parent.plan).tasks
    network = load_network(parent, theirs, home)
    same = replace(parent.recipe, only=()) == replace(recipe, only=())
    records = {
        head.task: head if same else replace(head, compared=0) for head in parent.heads if head.kind != "constant"
    }
    columns = {task.task: network.losses.layout.columns[code] for code, task in enumerate(theirs)}
    weights, biases = network.heads.weight.detach().double(), network.heads.bias.detach().double()
    own = weights[:, : network.width]
    both = own if network.before is None else torch.cat([own, network.before.weight.detach().double()], dim=1)
    return {
        task.name: Start(
            record=records[task.name], weights=(both if task.task.inputs == 2 else own)[columns[task.task]],
            biases=biases[columns[task.task]],
        )
        for task in tasks
        if task.task in columns and task.name in records
    }  # fmt: skip
