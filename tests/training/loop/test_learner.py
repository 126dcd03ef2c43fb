"""One step: what moves, what does not, and what it costs a task to be balanced, clipped, slowed or frozen."""

import platform
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from support.learned import TASKS, recipe
from support.steps import TREE, Features, draws, learner, states

from curation import BadInput
from curation.errors import Failed
from training.loop.gradient_norms import GradientNorms
from training.loop.learner import Learner
from training.loop.memory import out_of_memory
from training.loop.optimise import TreeOptimiser
from training.loop.ranks import Ranks, joined
from training.network.tree_network import TreeNetwork
from training.tree import Tree


def moments(made: Learner, task: int) -> list[torch.Tensor]:
    assert isinstance(made.network, TreeNetwork)
    node, rows = made.network.rows(task)
    head = made.network.head(node)
    return [
        made.optimiser.inner.state[part][which][rows].clone()
        for part in head.parameters() for which in ("exp_avg", "exp_avg_sq")
    ]  # fmt: skip


@pytest.mark.parametrize("task", [0, 1])
def test_a_frozen_task_does_not_move_while_500_steps_teach_the_others(task: int) -> None:
    made = learner(dropout=0.1)
    optimiser, network = made.optimiser, made.network
    assert isinstance(optimiser, TreeOptimiser)
    assert isinstance(network, TreeNetwork)
    for number in range(5):
        made.step(draws(number), number, 1.0)
    optimiser.freeze(frozenset({task}))
    made.weights[task] = 0
    node, rows = network.rows(task)
    kept = [part[rows].clone() for part in network.head(node).parameters()]
    before, held = states(made), moments(made, task)
    inputs = draws(99).inputs
    logits = network.eval()(inputs)[:, network.losses.layout.columns[task]]
    made.train()
    for number in range(5, 505):
        made.step(draws(number % 20), number, 1.0)
    assert all(torch.equal(a, b[rows]) for a, b in zip(kept, network.head(node).parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(held, moments(made, task), strict=True))
    after = states(made)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "heads.both.weight" in moved
    if task == 0:  # car has a branch of its own, which nothing else reads
        assert not {name for name in moved if "own" in name}
        assert torch.equal(logits, network.eval()(inputs)[:, network.losses.layout.columns[task]])
    optimiser.freeze(frozenset())
    made.weights[task] = 0.2
    made.train()
    made.step(draws(3), 505, 1.0)
    assert not all(torch.equal(a, b[rows]) for a, b in zip(kept, network.head(node).parameters(), strict=True))


def test_a_rate_multiplies_the_step_of_a_tasks_rows() -> None:
    slow, fast = learner(task={"color": {"rate": 0.25}}, weight_decay=0.0), learner(weight_decay=0.0)
    start = states(fast)["heads.both.weight"]
    for made in (slow, fast):
        made.step(draws(1), 0, 1.0)
    rows = fast.network.rows(1)[1]  # type: ignore[union-attr]
    steps = [states(made)["heads.both.weight"] - start for made in (slow, fast)]
    assert torch.allclose(steps[0][rows], 0.25 * steps[1][rows], atol=1e-7)
    others = torch.ones(len(start), dtype=torch.bool)
    others[rows] = False
    assert torch.equal(steps[0][others], steps[1][others])


def test_adam_alone_would_cancel_an_importance() -> None:
    plain, small = learner(weight_decay=0.0), learner(weight_decay=0.0)
    start = states(plain)
    small.weights[0] *= 0.01
    for made in (plain, small):
        for number in range(3):
            made.step(draws(number), number, 1.0)
    rows = plain.network.rows(0)[1]  # type: ignore[union-attr]
    steps = [(states(made)["heads.own.weight"] - start["heads.own.weight"])[rows] for made in (plain, small)]
    assert torch.allclose(*steps, rtol=0.02, atol=1e-5)


def test_a_branch_that_tasks_of_one_rate_read_has_that_rate() -> None:
    made = learner(task={"car": {"rate": 0.5, "decay": 0.3}}, weight_decay=0.1)
    groups = {id(part): group for group in made.optimiser.inner.param_groups for part in group["params"]}
    own, both = (groups[id(made.network.branches[name][0].weight)] for name in ("own", "both"))  # type: ignore
    assert (own["scale"], own["weight_decay"]) == (0.5, 0.3)
    assert (both["scale"], both["weight_decay"]) == (1.0, 0.1)


def test_a_decay_is_that_of_the_tasks_rows() -> None:
    made = learner(task={"color": {"decay": 0.5}}, weight_decay=0.0, learning_rate=0.1)
    start = states(made)["heads.both.weight"]
    nothing = draws(1)
    made.step(replace(nothing, weights=nothing.weights * 0), 0, 1.0)
    after = states(made)["heads.both.weight"]
    rows = made.network.rows(1)[1]  # type: ignore[union-attr]
    assert torch.allclose(after[rows], start[rows] * (1 - 0.1 * 0.5))
    others = torch.ones(len(start), dtype=torch.bool)
    others[rows] = False
    assert torch.equal(after[others], start[others])


def test_a_batch_without_a_known_label_changes_nothing() -> None:
    made = learner()
    made.step(draws(1), 0, 1.0)
    before = states(made)
    empty = draws(2)
    found = made.step(replace(empty, known=torch.zeros_like(empty.known), weights=empty.weights * 0), 1, 1.0)
    assert not found.losses.any()
    assert all(torch.equal(part, before[name]) for name, part in states(made).items())


def test_filling_an_unknown_label_moves_only_that_tasks_loss() -> None:
    made, asked = learner(), draws(1)
    row, task = torch.nonzero(~asked.known)[0].tolist()
    known, weights = asked.known.clone(), asked.weights.clone()
    known[row, task], weights[row, task] = True, 1.0
    outputs = made.network(asked.inputs)
    before = made.network.losses(outputs, asked.values, asked.known, asked.weights)
    after = made.network.losses(outputs, asked.values, known, weights)
    assert (before != after).nonzero().flatten().tolist() == [task]


@pytest.mark.parametrize("parts", [2, 4, 16])
def test_a_batch_in_parts_is_the_whole_batch(parts: int) -> None:
    whole, divided = learner(dropout=0.3, clip=0.1), learner(dropout=0.3, clip=0.1, accumulate=parts)
    for number in range(3):
        first, second = (made.step(draws(number), number, 1.0) for made in (whole, divided))
        assert torch.allclose(first.losses, second.losses, rtol=1e-5)
    assert whole.norms is not None
    assert divided.norms is not None
    assert torch.allclose(whole.norms.squares, divided.norms.squares, rtol=1e-4)
    for name, part in states(whole).items():
        assert torch.allclose(part, states(divided)[name], atol=2e-5)


def test_clipping_bounds_the_gradient() -> None:
    made = learner(clip=1e-3)
    assert made.step(draws(1), 0, 1.0).clipped
    norm = torch.sqrt(sum((p.grad**2).sum() for p in made.optimiser.parameters if p.grad is not None))  # type: ignore
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_norms_from_the_gram_are_those_of_autograd() -> None:
    made, asked = learner(balance="gradient_norm"), draws(1)
    network = made.network
    assert isinstance(network, TreeNetwork)
    at = {name: seen.detach().requires_grad_() for name, seen in network.features(asked.inputs).items()}
    outputs = torch.cat([network.head(name)(at[name]) for name in network.heads], dim=1)
    losses = network.losses(outputs, asked.values, asked.known, asked.weights)
    wanted = []
    for task in range(len(TASKS)):
        node = at[network.rows(task)[0]]
        (grad,) = torch.autograd.grad(losses[task], node, retain_graph=True)
        wanted.append(float((grad**2).sum()))
    weights = torch.tensor([0.1, 0.5, 0.2, 0.1, 0.1])
    (gradient,) = torch.autograd.grad(losses @ weights, outputs)
    found = GradientNorms(network).of(gradient, weights)
    assert found.tolist() == pytest.approx(wanted, rel=1e-4)


def test_factors_are_within_four_and_equalise_norms() -> None:
    made = learner(balance="gradient_norm")
    assert made.norms is not None
    assert made.factors().tolist() == [1.0] * len(TASKS)
    made.norms.add(torch.tensor([1.0, 4.0, 1e-6, 0.0, 1e6]))
    factors = made.factors()
    assert factors.min() == 0.25
    assert factors.max() == 4.0
    assert factors[3] == 1.0
    made.norms.squares = torch.tensor([1.0, 4.0, 2.0, 0.0, 1.0])
    balanced = (made.norms.squares.sqrt() * made.factors())[[0, 1, 2, 4]]
    assert balanced.tolist() == pytest.approx([float(balanced[0])] * 4)


def test_a_loss_that_is_not_finite_stops_with_task_step_and_samples() -> None:
    made, asked = learner(), draws(1)
    values = asked.values.clone()
    rows = asked.known[:, 2].nonzero().flatten()[:2].tolist()
    values[rows, 2] = torch.inf
    before = states(made)
    with pytest.raises(BadInput) as caught:
        made.step(replace(asked, values=values), 41, 1.0)
    told = f"task speed: its loss is not finite at step 41, on key/{rows[0]}, key/{rows[1]};"
    assert str(caught.value).startswith(told)
    assert all(torch.equal(part, before[name]) for name, part in states(made).items())


@pytest.mark.parametrize(
    ("error", "changed", "says"),
    [
        (MemoryError(), {}, "take a smaller tree"),
        (torch.OutOfMemoryError("CUDA out of memory"), {"trunk": "small"}, "set accumulate = 2"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"), {"trunk": "small"}, "accumulate = 2"),
    ],
)
def test_out_of_memory_says_what_to_lower(error: Exception, changed: dict[str, object], says: str) -> None:
    with pytest.raises(Failed, match=says) as caught, out_of_memory(recipe(tree=TREE, **changed), learner()):
        raise error
    assert "\n" not in str(caught.value)


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="something else"), out_of_memory(recipe(tree=TREE), learner()):
        raise RuntimeError("something else")


def test_ranks_must_divide_the_batch() -> None:
    made = recipe(tree=TREE)
    network = TreeNetwork(Features(), made, Tree.shared(4).nodes([task.name for task in TASKS]), TASKS)
    with pytest.raises(BadInput, match="global_batch = 16 is no multiple of 3 ranks"):
        Learner(made, network, TASKS, Ranks(world=3))


@pytest.mark.parametrize(("device", "says"), [("gpu", "auto, cpu or cuda"), ("cuda", "needs GPU 99")])
def test_a_device_that_is_not_there(device: str, says: str) -> None:
    with pytest.raises(BadInput, match=says), joined(rank=0, world=1, local_rank=99, device=device):
        pass


KEPT = """
import ctypes, sys
import torch
from training.loop.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
end = ctypes.CDLL(None).sbrk
end.restype, end.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
start = end(0)
map_ = torch.empty(64 << 20, dtype=torch.uint8)
inside = start - (1 << 30) < map_.data_ptr() < end(0)
largest = end(0)
del map_
print(int(inside and end(0) == largest))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    """A large block comes from the heap, whose end stays where it is once the block is freed."""
    found = [
        subprocess.run([sys.executable, "-c", KEPT, word], capture_output=True, text=True, check=True).stdout.strip()
        for word in ("keep", "leave")
    ]
    assert found == ["1", "0"]
