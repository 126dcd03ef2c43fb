"""What one task alone reads is computed for the rows on which it is known: the same gradients, less work."""

from typing import Any

import pytest
import torch
from support.learned import plan_task
from torch import Tensor, nn

from curation import Task
from samplers.plan.plan import PlanTask
from training.network.known_rows import by_rows, rows_known
from training.network.model import build_tree
from training.network.objects import Objects
from training.network.pairs import as_pair
from training.network.tree_network import TreeNetwork
from training.recipe import Recipe

ROWS = 24
SPEED = Task(name="speed", kind="regression", unit="m", metric="mae", owner="ada", inputs=2, gap=0.1)
MOVERS = Task.model_validate(
    {"name": "movers", "kind": "detection", "classes": ["x"], "owner": "ada", "inputs": 2, "gap": 0.1}
)
SIGNS = Task(name="signs", kind="detection", classes=("x",), owner="ada")
ONE = [plan_task("car"), plan_task("color")]
TASKS = {
    "separate": (ONE, {"tree": "separate"}),
    "branches": (ONE, {"tree": {"branch": {"outer": {"width": 8, "tasks": ["car"]},
                                           "inner": {"parent": "outer", "width": 4, "tasks": ["color"]}}}}),
    "boxes": ([*ONE, plan_task("car", task=SIGNS)], {}),
    "pairs": ([*ONE, plan_task("speed", task=SPEED), plan_task("car", task=MOVERS)], {}),
}  # fmt: skip


def network(name: str) -> tuple[TreeNetwork, list[PlanTask], Tensor]:
    """A network with random weights in its heads and joints, its tasks, and inputs."""
    tasks, words = TASKS[name]
    made = build_tree(Recipe.parse({"trunk": "small", "size": (32, 48), "hidden": 8, **words}), tasks, None)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part, weight in made.named_parameters():
            if "heads" in part or "mix" in part or "out" in part:
                weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    now, before = (torch.rand(ROWS, 3, 32, 48, generator=generator) * 2 - 1 for _ in range(2))
    return made.eval(), tasks, as_pair(now, before, torch.rand(ROWS) < 0.8) if made.paired else now


def labels(tasks: list[PlanTask], known: Tensor) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    values = torch.randint(0, 2, known.shape, generator=generator).float()
    boxed = [code for code, task in enumerate(tasks) if task.task.kind == "detection"]
    objects = Objects(
        draws=torch.arange(ROWS).repeat(len(boxed)), tasks=torch.tensor(boxed).repeat_interleave(ROWS),
        codes=torch.zeros(ROWS * len(boxed), dtype=torch.int64),
        corners=torch.tensor([[0.2, 0.2, 0.6, 0.7]]).repeat(ROWS * len(boxed), 1),
        ignored=torch.zeros(ROWS * len(boxed), dtype=torch.bool), values=torch.zeros(ROWS * len(boxed), 0),
    )  # fmt: skip
    return {"values": values, "known": known, "weights": known.float(), "objects": objects}


def gradients(made: TreeNetwork, inputs: Tensor, given: dict[str, Any], known: Tensor | None) -> dict[str, Tensor]:
    made.zero_grad(set_to_none=True)
    made.losses.objective(made.losses(made(inputs, known=known), **given)).backward()
    return {name: part.grad for name, part in made.named_parameters() if part.grad is not None}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("name", TASKS)
def test_gradients_are_those_of_all_rows(name: str, share: float) -> None:
    made, tasks, inputs = network(name)
    known = torch.rand(ROWS, len(tasks), generator=torch.Generator().manual_seed(2)) < share
    given = labels(tasks, known)
    expected, found = (gradients(made, inputs, given, part) for part in (None, known))
    assert found.keys() == expected.keys()  # a part without a known row has a gradient, of 0, on every rank
    for part, gradient in expected.items():
        assert torch.allclose(found[part], gradient, rtol=1e-4, atol=1e-6), part
    if share:
        assert any(bool(gradient.any()) for gradient in found.values())


@pytest.mark.parametrize("name", TASKS)
def test_no_branch_and_no_head_of_boxes_sees_other_rows(name: str) -> None:
    made, tasks, inputs = network(name)
    known = torch.zeros(ROWS, len(tasks), dtype=torch.bool)
    known[:5, -1] = True
    seen = dict[str, int]()

    def note(part: str) -> Any:
        return lambda module, given, output: seen.update(
            {part: len(output[0] if isinstance(output, tuple) else output)}
        )

    for part, reader in made.parts().items():
        if not part.startswith("trunk"):
            reader.module.register_forward_hook(note(part))
    made(inputs, known=known)
    readers = {part: each.readers for part, each in made.parts().items()}
    for part, count in seen.items():
        expected = ROWS if len(readers[part]) > 1 else 5 if len(tasks) - 1 in readers[part] else 1
        assert count == expected, part


def test_all_rows_are_computed_where_choosing_saves_nothing() -> None:
    known = torch.ones(8, 3, dtype=torch.bool)
    assert rows_known(None, [0]) is None
    assert rows_known(known, [0]) is None
    known[3:] = False
    assert rows_known(known, [0, 1]) is None
    assert rows_known(known[:, :1], [0]) is None
    assert rows_known(known, [1]).tolist() == [0, 1, 2]  # type: ignore[union-attr]
    assert rows_known(known & False, [1]).tolist() == [0]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", TASKS)
def test_a_label_that_is_filled_moves_no_other_task(name: str) -> None:
    made, tasks, inputs = network(name)
    known = torch.rand(ROWS, len(tasks), generator=torch.Generator().manual_seed(3)) < 0.3
    row = int((~known[:, 0]).nonzero()[0])
    filled = known.clone()
    filled[row, 0] = True
    before, after = (made.losses(made(inputs, known=part), **labels(tasks, part)) for part in (known, filled))
    assert before[0] != after[0]
    assert torch.equal(before[1:], after[1:])


def test_other_rows_are_zero_and_have_no_gradient() -> None:
    inputs = torch.rand(6, 4, requires_grad=True)
    (found,) = by_rows(nn.Linear(4, 2), torch.tensor([1, 4]), inputs)
    found.sum().backward()
    assert found[[0, 2, 3, 5]].any().item() is False
    assert inputs.grad is not None
    assert inputs.grad.any(dim=1).nonzero()[:, 0].tolist() == [1, 4]
