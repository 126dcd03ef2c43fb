"""Starting a network with the weights of a finished run: parts and heads by name, and what does not match by a line."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from curation.errors import BadInput
from samplers.plan.plan import Plan, PlanTask
from training.network.attribute_rows import take_attributes
from training.network.detection import EXTRA, BoxHead
from training.network.model import Network, load_any
from training.network.tree_network import BOXES, TreeNetwork
from training.run import Run
from training.tree import TRUNK

__all__ = ["take_over"]


@torch.no_grad()
def take_over(
    network: Network | TreeNetwork, tasks: Sequence[PlanTask], parent: Run, home: Path, *, whole: bool = False
) -> list[str]:
    """Copy the weights of a finished run: trunk, branches and heads that both networks have, by name.

    The rows of a head follow the names of its classes. Returns a line for each task of `tasks` that starts without a
    head of the run, in whole or for a class, and for each head of the run that has no task here. BadInput where the
    run has another trunk, or, for a plain recipe, another branch; with `whole`, for anything that does not match.
    """
    theirs = Plan.open(home, parent.plan).tasks
    old = load_any(parent, theirs, home)
    mine, before = _parts(network), _parts(old)
    found = []
    for name, module in mine.items():
        if name.startswith(f"{BOXES}:"):
            continue
        if name in before and _alike(module, before[name]):
            module.load_state_dict(before[name].state_dict())
        elif name.startswith(f"{TRUNK}:") or isinstance(network, Network):
            raise BadInput(f"run {parent.id}: has another trunk or branch than this recipe; train without it")
        else:
            found.append(f"branch {name}: run {parent.id} has none like it, so it starts from scratch")
    codes = {task.name: t for t, task in enumerate(theirs)}
    for t, task in enumerate(tasks):
        if task.name not in codes:
            found.append(f"{task.name}: run {parent.id} has no such head, so it starts from scratch")
        else:
            take = _take_boxes if f"{BOXES}:{task.name}" in mine else _take_head
            found += take(network, old, (t, codes[task.name]), (task, theirs[codes[task.name]]))
    names = {task.name for task in tasks}
    found += [
        f"{name}: the head of run {parent.id} has no task here and is left out" for name in codes if name not in names
    ]
    if whole and found:
        raise BadInput(f"run {parent.id}: {found[0]}; continue it with the same tree and tasks")
    if whole:
        network.losses.load_state_dict(old.losses.state_dict())
    return found


def _parts(network: Network | TreeNetwork) -> dict[str, nn.Module]:
    """Trunk stages and branches by name; the branch of a plain network is called "shared"."""
    if isinstance(network, TreeNetwork):
        return {name: part.module for name, part in network.parts().items()}
    stages: dict[str, nn.Module] = {f"{TRUNK}:{name}": stage for name, stage in _stages(network.trunk)}
    return stages if isinstance(network.branch, nn.Identity) else {**stages, "shared": network.branch}


def _stages(trunk: nn.Module) -> Sequence[tuple[str, nn.Module]]:
    stages: Sequence[tuple[str, nn.Module]] = getattr(trunk, "stages", [("whole", trunk)])
    return stages


def _alike(first: nn.Module, second: nn.Module) -> bool:
    shapes = [{name: part.shape for name, part in module.state_dict().items()} for module in (first, second)]
    return shapes[0] == shapes[1]


def _alike_but(first: nn.Module, second: nn.Module, left_out: tuple[str, ...]) -> bool:
    """Whether two modules hold the same weights beside those whose names begin with one of `left_out`."""
    shapes = [
        {name: part.shape for name, part in module.state_dict().items() if not name.startswith(left_out)}
        for module in (first, second)
    ]
    return shapes[0] == shapes[1]


def _head(network: Network | TreeNetwork, task: int) -> tuple[str, Tensor, Tensor]:
    """The node, weights [K, F] and biases [K] of a task's head, as views."""
    if isinstance(network, TreeNetwork):
        node, rows = network.rows(task)
        head = network.head(node)
    else:
        node, rows, head = "shared", network.losses.layout.columns[task], network.heads
        node = TRUNK if isinstance(network.branch, nn.Identity) else node
    return node, head.weight[rows], head.bias[rows]


def _take_head(
    network: Network | TreeNetwork, old: Network | TreeNetwork, codes: tuple[int, int],
    tasks: tuple[PlanTask, PlanTask],
) -> list[str]:  # fmt: skip
    """Copy one head class by class; a line where it cannot be."""
    (mine, theirs), (task, before) = codes, tasks
    node, weight, bias = _head(network, mine)
    from_, old_weight, old_bias = _head(old, theirs)
    if task.task.kind != before.task.kind or node != from_ or weight.shape[1] != old_weight.shape[1]:
        return [f"{task.name}: its head reads or predicts something else than before, so it starts from scratch"]
    if not task.task.classes or task.task.kind == "binary":
        weight.copy_(old_weight)
        bias.copy_(old_bias)
        return []
    return _take_classes((weight, bias), (old_weight, old_bias), task, before)


def _take_boxes(
    network: Network | TreeNetwork, old: Network | TreeNetwork, codes: tuple[int, int],
    tasks: tuple[PlanTask, PlanTask],
) -> list[str]:  # fmt: skip
    """Copy a head of boxes, its classes by name; a line where it cannot be."""
    task, before = tasks
    name = f"{BOXES}:{task.name}"
    mine, theirs = _parts(network)[name], _parts(old).get(name)
    if (
        task.task.inputs != before.task.inputs
        or not isinstance(theirs, BoxHead)
        or not isinstance(mine, BoxHead)
        or not _alike_but(mine, theirs, ("out.", "attributes."))
    ):
        return [f"{task.name}: its head reads or predicts something else than before, so it starts from scratch"]
    mine.laterals.load_state_dict(theirs.laterals.state_dict())
    mine.smooth.load_state_dict(theirs.smooth.state_dict())
    ours, old_out = mine.out, theirs.out
    assert ours.bias is not None
    assert old_out.bias is not None
    ours.weight[-EXTRA:], ours.bias[-EXTRA:] = old_out.weight[-EXTRA:], old_out.bias[-EXTRA:]
    lines = _take_classes((ours.weight, ours.bias), (old_out.weight, old_out.bias), task, before)
    return lines + take_attributes((mine, theirs), task, before)


def _take_classes(
    mine: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], task: PlanTask, before: PlanTask
) -> list[str]:
    """Copy the rows of weights and biases that classes of a name have in common; a line for each other class."""
    rows = {name: row for row, name in enumerate(before.task.classes)}
    for row, name in enumerate(task.task.classes):
        if name in rows:
            for own, old in zip(mine, theirs, strict=True):
                own[row] = old[rows[name]]
    new = [name for name in task.task.classes if name not in rows]
    gone = [name for name in rows if name not in task.task.classes]
    return [f"{task.name}: class {name} starts from scratch" for name in new] + [
        f"{task.name}: class {name} of before is left out" for name in gone
    ]
