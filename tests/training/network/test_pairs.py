"""Networks that read two frames: one tensor a pair, zeros where there is no frame before, other tasks untouched."""

import pytest
import torch
from support.learned import plan_task
from torch import Tensor

from curation import BadInput, Task
from samplers.plan.plan import PlanTask
from training.network.detection import BoxHead
from training.network.losses import Layout
from training.network.model import Network, build_any, build_tree
from training.network.pairs import SHIFTS, Joined, as_pair, matches, moved_along, split_pair
from training.network.tree_network import TreeNetwork
from training.network.trunks import SmallTrunk
from training.recipe import Recipe

ONE = [plan_task("car"), plan_task("color")]
TWO = plan_task(
    "speed", task=Task(name="speed", kind="regression", unit="m", metric="mae", owner="ada", inputs=2, gap=0.1)
)
SIGNS, MOVERS = (
    plan_task(
        "car", task=Task.model_validate({"name": name, "kind": "detection", "classes": ["x"], "owner": "ada", **two})
    )
    for name, two in (("signs", {}), ("movers", {"inputs": 2, "gap": 0.1}))
)
TASKS = [*ONE, TWO]
BOXES = {"boxes": [*TASKS, SIGNS, MOVERS], "boxes of two frames alone": [MOVERS], "both alone": [SIGNS, MOVERS]}
TREES = {
    "default": {},
    "early": {"tree": {"branch": {"shared": {"width": 8, "tasks": ["*"]},
                                  "own": {"parent": "trunk:stage2", "width": 6, "tasks": ["speed"]}}}},
    "mixed": {"tree": {"branch": {"shared": {"width": 8, "tasks": ["*"]}}}},
    "on the trunk": {"tree": {"tasks": ["*"]}},
    "its own": {"tree": "separate"},
    "inner": {"tree": {"branch": {"first": {"width": 8, "tasks": ["car"]},
                                  "inner": {"parent": "first", "width": 4, "tasks": ["*"]}}}},
    **{key: {} for key in BOXES}, "boxes beside a tree": {"tree": {"tasks": ["*"]}},
}  # fmt: skip
BOXES["boxes beside a tree"] = BOXES["boxes"]


def network(tree: dict[str, object], tasks: list[PlanTask] = TASKS) -> TreeNetwork:
    """A network whose heads and joints have random weights: they begin at 0."""
    found = build_any(Recipe.parse({"trunk": "small", "size": (32, 48), "hidden": 8, **tree}), tasks, None)
    assert isinstance(found, TreeNetwork)
    generator = torch.Generator().manual_seed(0)
    for head in (*found.heads.values(), *(part.out for part in found.boxes.values() if isinstance(part, BoxHead))):
        torch.nn.init.normal_(head.weight, generator=generator)
    return found.eval()


def family(name: str) -> tuple[TreeNetwork, list[PlanTask]]:
    """The network of a tree by name, and its tasks."""
    tasks = BOXES.get(name, TASKS)
    return network(TREES[name], tasks), tasks


def plain() -> Recipe:
    return Recipe.parse({"trunk": "small", "size": (32, 48), "hidden": 8})


def pictures(seed: int, count: int = 6) -> Tensor:
    return torch.rand(count, 3, 32, 48, generator=torch.Generator().manual_seed(seed)) * 2 - 1


NOW, EARLIER, OTHER = (pictures(seed) for seed in range(3))
ALL, NONE = torch.ones(6, dtype=torch.bool), torch.zeros(6, dtype=torch.bool)


@pytest.mark.parametrize("shape", [(5,), (3, 4, 6)])
def test_a_pair_is_one_tensor(shape: tuple[int, ...]) -> None:
    now, before = torch.rand(4, *shape), torch.rand(4, *shape)
    paired = torch.tensor([True, False, True, False])
    found = split_pair(as_pair(now, before, paired))
    assert torch.equal(found.now, now)
    assert torch.equal(found.before[::2], before[::2])
    assert not found.before[1::2].any()
    assert torch.equal(found.flag.flatten(1).amax(1), paired.float())


@pytest.mark.parametrize("tree", TREES)
def test_only_tasks_of_two_frames_read_the_other(tree: str) -> None:
    made, tasks = family(tree)
    with torch.no_grad():
        for part in made.branches.values():
            for name, weight in part.named_parameters():
                if "mix" in name:
                    weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
        outputs = [made(as_pair(NOW, before, ALL)) for before in (EARLIER, OTHER)]
        missing = [made(as_pair(NOW, before, NONE)) for before in (EARLIER, OTHER)]
    for code, columns in made.losses.layout.columns.items():
        same = torch.equal(outputs[0][:, columns], outputs[1][:, columns])
        assert same == (tasks[code].task.inputs == 1), tasks[code].name
        assert torch.equal(missing[0][:, columns], missing[1][:, columns])
        assert torch.equal(made(as_pair(NOW, EARLIER, ALL), only=frozenset([code]))[:, columns], outputs[0][:, columns])
        if made.node_of(code):
            assert torch.equal(made.outputs_of(as_pair(NOW, EARLIER, ALL), code), outputs[0][:, columns])


@pytest.mark.parametrize("tree", TREES)
def test_every_path_has_its_gradient_and_no_other(tree: str) -> None:
    made, tasks = family(tree)
    for code in range(len(tasks)):
        made.zero_grad(set_to_none=True)
        made(as_pair(NOW, EARLIER, ALL))[:, made.losses.layout.columns[code]].sum().backward()
        for name, part in made.parts().items():
            touched = any(weight.grad is not None and bool(weight.grad.any()) for weight in part.module.parameters())
            if any(True for _ in part.module.parameters()):
                assert touched == (code in part.readers), name


def test_a_network_of_pairs_begins_as_one_of_single_frames() -> None:
    """Joined maps begin as the image's own, so what the frame before adds is learned."""
    two = network(TREES["early"])
    single = [*ONE, plan_task("speed")]
    one = network(TREES["early"], single)
    one.load_state_dict(
        {name: two.state_dict()[name.replace("branches.own.", "branches.own.rest.")] for name in one.state_dict()}
    )
    with torch.no_grad():
        assert torch.allclose(two(as_pair(NOW, EARLIER, ALL)), one(NOW), atol=1e-5)


def test_a_flag_may_be_a_column_or_a_map() -> None:
    joined, maps = Joined(4, maps=True), torch.rand(2, 4, 6, 6)
    column = torch.tensor([[1.0], [0.0]])
    assert torch.equal(joined(maps, maps, column), joined(maps, maps, column[:, :, None, None].expand(2, 1, 6, 6)))


def test_matches_are_highest_at_the_shift_between_frames() -> None:
    maps = torch.rand(2, 8, 12, 20, generator=torch.Generator().manual_seed(0))
    for down, right in ((0, 3), (0, -2), (2, 0), (0, 0)):
        moved = maps.roll((down, right), dims=(2, 3))
        inner = matches(maps, moved)[:, :, 4:-4, 4:-4].mean(dim=(0, 2, 3))
        assert SHIFTS[int(inner.argmax())] == (down, right)


@pytest.mark.parametrize("shift", [(0, 3), (0, -1), (2, 0), (0, 0)])
def test_what_moves_by_itself_differs_from_the_frame_before_once_that_has_moved_along(shift: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(2, 8, 12, 24, generator=generator)
    now = before.roll(shift, dims=(2, 3))
    now[1, :, 4:8, 10:14] = before[1, :, 4:8, 8:12]  # of the second picture a part has moved by two cells
    found = moved_along(now, before, matches(now, before), torch.tensor(100.0))
    still, moving = ((now[row] - found[row])[:, 4:8, 8:16].abs().mean(dim=0) for row in (0, 1))
    assert float(still.max()) < 0.05
    assert float(moving[:, 2:6].min()) > 0.3
    assert float(moving[:, :2].max()) < 0.1


def test_a_picture_between_two_shifts_is_interpolated() -> None:
    before = torch.randn(1, 8, 12, 40, generator=torch.Generator().manual_seed(1))
    now = (before.roll(1, dims=3) + before.roll(2, dims=3)) / 2
    found = moved_along(now, before, matches(now, before), torch.tensor(20.0, requires_grad=True))
    inner = (..., slice(5, -5))
    left = (now - found.detach())[inner].abs().mean()
    assert float(left) < 0.5 * float((now - before)[inner].abs().mean())
    assert found.requires_grad


def test_a_stage_of_the_trunk_is_read_by_both_kinds_and_copied_for_pairs() -> None:
    made = network({})
    assert made.nodes[-1].parent == "trunk:stage1"
    assert {name for name, part in made.parts().items() if 2 in part.readers} == {"trunk:stage1", "pairs"}
    assert len(made.of_trunk("pairs")) == len([p for stage in SmallTrunk().stages[1:] for p in stage[1].parameters()])


def test_other_tasks_keep_their_outputs_when_a_task_of_two_frames_is_added() -> None:
    with_pairs = network({})
    without = build_tree(plain(), ONE, None).eval()
    shared = {name: part for name, part in with_pairs.state_dict().items() if name in without.state_dict()}
    without.load_state_dict(
        {**without.state_dict(), **{n: p for n, p in shared.items() if n.startswith(("trunk", "branches"))}}
    )
    with torch.no_grad():
        for head in without.heads:
            without.head(head).weight.copy_(with_pairs.head(head).weight)
        columns = Layout(ONE, [[0, 1]]).nodes[0]
        found = with_pairs(as_pair(NOW, EARLIER, ALL))[:, columns]
        assert torch.equal(found, without(NOW.contiguous(memory_format=torch.channels_last)))


def test_boxes_of_two_frames_have_a_branch_of_their_own_that_ends_with_their_maps() -> None:
    made, tasks = family("boxes")
    names = {code: {name for name, part in made.parts().items() if code in part.readers} for code in range(len(tasks))}
    assert names[tasks.index(MOVERS)] == {"trunk:stage1", "boxes_pairs", "boxes:movers"}
    assert names[tasks.index(TWO)] == {"trunk:stage1", "pairs"}
    assert len(made.branches["boxes_pairs"].rest) == 3  # type: ignore[arg-type]


def test_a_branch_without_tasks_that_leads_to_others_keeps_its_stages() -> None:
    words = {"tree": {"branch": {"first": {"parent": "trunk:stage2", "width": 8},
                                 "second": {"parent": "first", "width": 4, "tasks": ["*"]}}}}  # fmt: skip
    made = network(words, [*ONE, MOVERS])
    assert len(made.branches["first"]) == 5  # type: ignore[arg-type]


def test_a_branch_of_the_name_for_other_tasks_is_one_line() -> None:
    words = {"tree": {"branch": {"boxes_pairs": {"width": 8, "tasks": ["*"]}}}}
    with pytest.raises(BadInput, match="tree: branch boxes_pairs is that of tasks of boxes that read two frames"):
        network(words, [*ONE, MOVERS])


def test_solved_heads_of_one_frame_take_exactly_nothing_from_the_other() -> None:
    torch.manual_seed(0)
    made = Network(torch.nn.Identity(), 5, 0, TASKS)
    speed = made.losses.layout.columns[2]
    with torch.no_grad():
        made.heads.weight.normal_()
        assert made.before is not None
        made.before.weight[speed].normal_()
        now, before, paired = torch.rand(4, 5), torch.rand(4, 5), torch.tensor([True, True, False, False])
        outputs = made(as_pair(now, before, paired))
        alone = made.heads(now)
    changed = (outputs != alone).any(dim=0)
    assert changed.tolist() == [speed.start <= column < speed.stop for column in range(len(changed))]
    assert torch.equal(outputs[2:], alone[2:])


def test_other_optimisers_are_one_line() -> None:
    words = {"trunk": "small", "optimizer": "sgd", "size": (32, 48)}
    with pytest.raises(BadInput, match="task speed: two frames that learn from draws need optimizer = adamw, not sgd"):
        build_any(Recipe.parse(words), TASKS, None)
