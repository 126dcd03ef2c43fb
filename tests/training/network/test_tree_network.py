"""A network as a tree: gradients stay on paths, and every output is that of its path alone."""

import doctest
from itertools import pairwise

import numpy as np
import pytest
import torch
from support.learned import TASKS, plan_task, recipe
from torch import nn

from curation import BadInput
from training.network import dropout
from training.network.losses import SoftLabels, TaskLosses
from training.network.tree_network import TreeNetwork
from training.network.trunks import SmallTrunk
from training.recipe import Recipe
from training.tree import Tree

TREES = {
    "shared": Tree.shared(8),
    "linear": Tree.shared(0),
    "separate": Tree.separate(8),
    "drawn": Recipe.parse(
        {"trunk": "small", "tree": {"tasks": ["car"], "branch": {
            "late": {"width": 6, "tasks": ["speed", "dusk"]},
            "early": {"parent": "trunk:stage2", "width": 5, "tasks": ["color"]},
            "inner": {"parent": "late", "width": 4, "tasks": ["*"]},
        }}}
    ).tree,
}  # fmt: skip


class Stages(nn.Module):
    """A trunk of three linear stages."""

    def __init__(self) -> None:
        super().__init__()
        widths = (12, 10, 9, 7)
        self.width = widths[-1]
        self.stages = [
            (f"stage{number + 1}", nn.Sequential(nn.Linear(*pair), nn.Tanh()))
            for number, pair in enumerate(pairwise(widths))
        ]
        self.all = nn.ModuleList(stage for _, stage in self.stages)


def network(tree: Tree, trunk: nn.Module | None = None, **changed: object) -> TreeNetwork:
    torch.manual_seed(0)
    made = recipe(optimizer="adamw", **changed)
    found = TreeNetwork(Stages() if trunk is None else trunk, made, tree.nodes([task.name for task in TASKS]), TASKS)
    for head in found.heads.values():
        nn.init.normal_(head.weight)
        nn.init.normal_(head.bias)
    return found


def batch(size: int = 16) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    values = torch.stack([torch.randint(0, 2, (size,), generator=generator).float() for _ in TASKS], dim=1)
    known = torch.rand(size, len(TASKS), generator=generator) < 0.6
    return torch.randn(size, 12, generator=generator), values, known, known.float()


def test_examples() -> None:
    assert doctest.testmod(dropout, extraglobs={"np": np}).failed == 0


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("code", range(len(TASKS)))
def test_a_gradient_touches_only_its_own_path(tree: str, code: int) -> None:
    made = network(TREES[tree])
    inputs, values, known, weights = batch()
    made.losses(made(inputs, only=frozenset({code})), values, known, weights)[code].backward()
    path = made.path(code)
    assert path
    for name, part in made.parts().items():
        touched = [parameter.grad is not None and parameter.grad.any() for parameter in part.module.parameters()]
        assert all(touched) if name in path else not any(touched)
        if name not in path:
            assert all(parameter.grad is None for parameter in part.module.parameters())
    node, rows = made.rows(code)
    for name in made.heads:
        grad = made.head(name).weight.grad
        if name != node:
            assert grad is None
            continue
        assert grad is not None
        assert grad[rows].any()
        others = grad.clone()
        others[rows] = 0
        assert not others.any()


@pytest.mark.parametrize("tree", TREES)
def test_outputs_are_those_of_each_path_alone(tree: str) -> None:
    made = network(TREES[tree])
    inputs = batch()[0]
    together = made(inputs)
    assert together.shape[1] % 16 == 0
    for code in range(len(TASKS)):
        alone = made.outputs_of(inputs, code)
        assert torch.allclose(alone, together[:, made.losses.layout.columns[code]], atol=1e-6)
        assert alone.shape[1] == TASKS[code].task.outputs


def test_every_module_runs_once_a_pass() -> None:
    made, calls = network(TREES["drawn"]), dict[str, int]()
    for name, part in made.parts().items():
        part.module.register_forward_hook(lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))
    made(batch()[0])
    assert calls == dict.fromkeys(made.parts(), 1)


def test_a_stage_that_nobody_reads_does_not_run() -> None:
    made = network(TREES["separate"])
    assert all(not part.readers for name, part in made.parts().items() if ":" in name)
    assert {len(part.readers) for name, part in made.parts().items() if ":" not in name} == {1}


def test_a_branch_does_not_depend_on_the_other_branches() -> None:
    few, many = (network(Tree.separate(8, parent="trunk"), trunk=Stages()) for _ in range(2))
    alone = TreeNetwork(Stages(), recipe(), Tree.separate(8, parent="trunk").nodes(["car"]), [plan_task("car")])
    assert torch.equal(few.branches["own_car"][0].weight, alone.branches["own_car"][0].weight)
    assert torch.equal(few.branches["own_car"][0].weight, many.branches["own_car"][0].weight)
    assert not torch.equal(few.branches["own_car"][0].weight, few.branches["own_color"][0].weight)


def test_an_own_branch_starts_as_a_copy_of_the_trunk() -> None:
    made = network(Tree.separate(8), trunk=SmallTrunk())
    own = made.branches["own_car"]
    assert torch.equal(own[0][0].weight, made.trunk[0][0].weight)  # type: ignore[index]
    assert made(torch.zeros(2, 3, 32, 48)).shape == (2, 16 * len(TASKS))


def test_dropout_depends_on_the_position_and_the_tasks_rate() -> None:
    made = network(TREES["shared"], task={"car": {"dropout": 0.5}, "speed": {"dropout": 0.25}})
    inputs, places = batch()[0], np.arange(40, 56)
    first, again, later = made(inputs, places), made(inputs, places), made(inputs, places + 1)
    assert torch.equal(first, again)
    for code, task in enumerate(TASKS):
        columns = made.losses.layout.columns[code]
        moved = not torch.equal(first[:, columns], later[:, columns])
        assert moved == (task.name in ("car", "speed"))
    part = made(inputs[4:8], places[4:8])
    assert torch.allclose(part, first[4:8], atol=1e-6)


def test_smoothing_is_that_of_torch() -> None:
    _, values, known, weights = batch()
    made = TaskLosses(TASKS, smoothing=[0.1] * len(TASKS))
    outputs = torch.randn(16, made.layout.outputs)
    found = made(outputs, values, known, weights)
    for code in (1, 4):
        logits = outputs[:, made.layout.columns[code]]
        each = nn.functional.cross_entropy(logits, values[:, code].long(), reduction="none", label_smoothing=0.1)
        assert float(found[code]) == pytest.approx(float((each * weights[:, code]).mean()), rel=1e-5)
    plain = TaskLosses(TASKS)(outputs, values, known, weights)
    assert float(found[2]) == float(plain[2])  # numbers have no classes


def test_soft_labels_take_the_place_of_labels() -> None:
    _, values, known, weights = batch()
    made = TaskLosses(TASKS)
    outputs = torch.randn(16, made.layout.outputs, requires_grad=True)
    targets = torch.zeros(16, made.layout.outputs)
    targets[:, made.layout.columns[1]] = torch.softmax(outputs.detach()[:, made.layout.columns[1]], dim=1)
    targets[:, made.layout.columns[2]] = outputs.detach()[:, made.layout.columns[2]]
    learned = torch.tensor([False, True, True, False, False])
    losses = made(outputs, values, known, weights, soft=SoftLabels(targets=targets, learned=learned))
    plain = made(outputs, values, known, weights)
    assert torch.allclose(losses[~learned], plain[~learned])
    losses[learned].sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.abs().max() < 1e-7  # its own predictions teach nothing


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 9, 40])
def test_grouped_classes_of_any_number_are_those_of_torch(width: int) -> None:
    sizes = (2, max(2, width), 3, 7)
    tasks = [
        plan_task("color", task=TASKS[1].task.model_copy(update={"classes": tuple(f"c{c}" for c in range(size))}))
        for size in sizes
    ]
    made = TaskLosses(tasks)
    outputs, known = torch.randn(8, made.layout.outputs), torch.ones(8, 4, dtype=torch.bool)
    values = torch.ones(8, 4)
    found = made(outputs, values, known, known.float())
    for code in range(4):
        each = nn.functional.cross_entropy(outputs[:, made.layout.columns[code]], values[:, code].long())
        assert float(found[code]) == pytest.approx(float(each), rel=1e-5)


@pytest.mark.parametrize("trunk", [nn.Linear(3, 4), nn.Sequential()])
def test_a_trunk_without_stages_is_refused(trunk: nn.Module) -> None:
    with pytest.raises(BadInput, match=r"must have `stages`"):
        network(Tree.shared(8), trunk=trunk)


class OneStage(Stages):
    """The same trunk without an exit."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = [("pool", nn.Sequential(*self.all))]


def test_an_exit_that_the_trunk_lacks_is_refused() -> None:
    with pytest.raises(BadInput, match="leaves the trunk at 'stage2'; its stages are pool"):
        network(TREES["drawn"], trunk=OneStage())
