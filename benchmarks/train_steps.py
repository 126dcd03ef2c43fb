"""CPU time of a training step of many sparse tasks, beside the loop that one writes by hand, in turns."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.table import Row, small
from curation import Task
from samplers.plan.plan import PlanTask
from training.loop.affinity import EVERY
from training.loop.learner import Draws, Learner
from training.loop.memory import KEPT, keep_freed_memory
from training.loop.optimise import TreeOptimiser
from training.loop.ranks import Ranks
from training.network.tree_network import TreeNetwork
from training.network.trunks import SmallTrunk
from training.recipe import Recipe

__all__ = [
    "Arm", "Features", "learner", "many_tasks", "peer_step_rows", "pixels", "random_draws", "ratio", "step_rows",
]  # fmt: skip

BATCH, HIDDEN, WIDTH = 64, 256, 2_648
TURNS = 20 if small() else 30
STEPS = EVERY
"""Steps of an arm in each turn: one of these is a watched one (`training.loop.affinity`), as in a training."""

KNOWN = 0.2
"""Part of the labels that are known."""

PEERS = Path(".venv-train-peers/bin/python")
ARMS = ("torchjd:UPGrad", "torchjd:PCGrad", "libmtl:EW")
"""Peers by library and method. LibMTL's own PCGrad does not run: it expects gradients that torch sets to None today."""

Arm = Callable[[int], None]


class Features(nn.Identity):
    """Cached features as they are."""

    width = WIDTH

    @property
    def stages(self) -> list[tuple[str, nn.Module]]:
        """One stage that computes nothing."""
        return [("features", nn.Identity())]


class ByHand(nn.Module):
    """Trunk, hidden layer, and a module for each head: rows without a label are left out of each loss."""

    def __init__(self, trunk: nn.Module, width: int, tasks: Sequence[PlanTask]) -> None:
        super().__init__()
        self.trunk, self.tasks = trunk, tasks
        self.hidden = nn.Sequential(nn.Linear(width, HIDDEN), nn.GELU())
        self.heads = nn.ModuleDict({task.name: nn.Linear(HIDDEN, task.task.outputs) for task in tasks})
        self.optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=0.01, fused=True)

    def step(self, draws: Draws) -> None:
        """One step of the masked loop."""
        seen = self.hidden(self.trunk(draws.inputs))
        total = seen.new_zeros(())
        for t, task in enumerate(self.tasks):
            known = draws.known[:, t]
            if not known.any():
                continue
            outputs, target = self.heads[task.name](seen[known]), draws.values[known, t]
            if task.task.kind == "binary":
                each = functional.binary_cross_entropy_with_logits(outputs[:, 0], target, reduction="none")
            elif task.task.kind == "regression":
                each = 0.5 * (outputs[:, 0] - (target - task.mean) / task.deviation) ** 2
            else:
                each = functional.cross_entropy(outputs, target.long(), reduction="none")
            loss = (each * draws.weights[known, t]).sum() / len(draws.values)
            total = total + task.importance / task.constant_loss * loss
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()


def many_tasks(count: int) -> list[PlanTask]:
    """Tasks of all kinds in turn, of 2 to 12 classes."""
    found = []
    for number in range(count):
        kind = ("binary", "categorical", "regression", "categorical")[number % 4]
        own = {"unit": "m", "metric": "mae"} if kind == "regression" else {}
        classes = tuple(f"c{code}" for code in range(3 + number % 10)) if kind == "categorical" else ()
        task = Task.model_validate({"name": f"t{number}", "kind": kind, "classes": classes, "owner": "o"} | own)
        found.append(
            PlanTask(
                task=task, owner="o", share=1, importance=1 / count, rule="natural", constant_loss=1.0, mean=0.0,
                deviation=1.0, labelled=(), class_factor=None, strata=(),
            )
        )  # fmt: skip
    return found


def random_draws(tasks: Sequence[PlanTask], inputs: Tensor, seed: int = 0) -> Draws:
    """Labels of 0 and 1, a fifth of them known."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(inputs), len(tasks))
    known = torch.rand(shape, generator=generator) < KNOWN
    values = torch.randint(0, 2, shape, generator=generator).float()
    positions = np.arange(len(inputs))
    return Draws(
        inputs=inputs, values=values, known=known, weights=known.float(), keys=[""] * len(inputs), positions=positions
    )


def learner(trunk: nn.Module, tasks: Sequence[PlanTask], **changed: object) -> Learner:
    """Ours, on one hidden layer."""
    words = {"heads": "drawn", "tree": "shared", "hidden": HIDDEN, "weight_decay": 0.01, **changed}
    recipe = Recipe.parse(words)
    nodes = recipe.branching.nodes([task.name for task in tasks if task.task.outputs])
    return Learner(recipe, TreeNetwork(trunk, recipe, nodes, tasks), tasks, Ranks())


def pixels() -> Tensor:
    """A batch for the small trunk."""
    return torch.randn(BATCH, 3, 80, 128).contiguous(memory_format=torch.channels_last)


def ours(trunk: nn.Module, tasks: Sequence[PlanTask], inputs: Tensor, **changed: object) -> Arm:
    """A step of ours."""
    made, draws = learner(trunk, tasks, **changed), random_draws(tasks, inputs)
    return lambda number: _step(made, draws, number)


def frozen(trunk: nn.Module, tasks: Sequence[PlanTask], inputs: Tensor) -> Arm:
    """A step of ours in which every third task is frozen and every third has a rate of its own."""
    rates = {task.name: {"rate": 0.5} for task in tasks[::3]}
    made, draws = learner(trunk, tasks, task=rates), random_draws(tasks, inputs)
    _step(made, draws, 0)
    assert isinstance(made.optimiser, TreeOptimiser)
    made.optimiser.freeze(frozenset(range(1, len(tasks), 3)))
    return lambda number: _step(made, draws, number)


def by_hand(trunk: nn.Module, width: int, tasks: Sequence[PlanTask], inputs: Tensor) -> Arm:
    """A step of the loop by hand."""
    made, draws = ByHand(trunk, width, tasks), random_draws(tasks, inputs)
    return lambda number: made.step(draws)


def _step(made: Learner, draws: Draws, number: int) -> None:
    made.step(draws, number, 1.0)


def ratio(first: Arm, second: Arm, *, turns: int = TURNS, steps: int = STEPS) -> tuple[float, float, float]:
    """The median of first / second in CPU time over turns, and its 95% interval (order statistics)."""
    found = []
    for turn in range(-2, turns):
        times = []
        for arm in (first, second) if turn % 2 else (second, first):
            started = time.process_time()
            for step in range(steps):
                arm(step)
            times.append(time.process_time() - started)
        if turn >= 0:
            found.append(times[0] / times[1] if turn % 2 else times[1] / times[0])
    found.sort()
    low, high = (int(stats.binom.ppf(point, turns, 0.5)) for point in (0.025, 0.975))
    return float(np.median(found)), found[low], found[min(high, turns - 1)]


def step_rows() -> list[Row]:
    """The rows of steps."""
    keep_freed_memory()
    rows, images, vectors = [], pixels(), torch.randn(BATCH, WIDTH)
    for count, limit in ((10, 1.03), (100, 0.87)):
        tasks = many_tasks(count)
        hand = by_hand(SmallTrunk(), SmallTrunk.width, tasks, images)
        measured = ratio(ours(SmallTrunk(), tasks, images), hand)
        rows.append(_row(f"step of {count} tasks, small trunk, over the loop by hand", measured, limit, upper=True))
        measured = ratio(ours(Features(), tasks, vectors), by_hand(Features(), WIDTH, tasks, vectors))
        rows.append(_row(f"step of {count} tasks, cached features, over the loop by hand", measured, None))
    one, hundred = many_tasks(1), many_tasks(100)
    measured = ratio(ours(SmallTrunk(), hundred, images), ours(SmallTrunk(), one, images))
    rows.append(_row("100 tasks over 1, small trunk", measured, 1.10))
    measured = ratio(ours(Features(), hundred, vectors), ours(Features(), one, vectors))
    rows.append(_row("100 tasks over 1, cached features", measured, 1.5))
    plain = ours(SmallTrunk(), hundred, images)
    measured = ratio(ours(SmallTrunk(), hundred, images, balance="gradient_norm"), plain)
    rows.append(_row("Gram monitor: step of 100 tasks with it over without", measured, 1.05))
    measured = ratio(frozen(SmallTrunk(), hundred, images), plain)
    rows.append(_row("rates by row, 33 of 100 tasks frozen: step with over without", measured, 1.02))
    return rows


def _row(what: str, measured: tuple[float, float, float], limit: float | None, *, upper: bool = False) -> Row:
    value, low, high = measured
    if limit is None:
        return Row(what=what, value=value, low=low, high=high, unit="x", asked="printed")
    bound = f"{'upper bound ' if upper else ''}<= {limit:.2f}"
    met = (high if upper else value) <= limit
    return Row(what=what, value=value, low=low, high=high, unit="x", asked=bound, met=met)


def peer_step_rows() -> list[Row]:
    """The step of each peer over ours, in turns; none without the environment of the peers."""
    if not PEERS.exists():
        return []
    keep_freed_memory()
    rows, inputs = [], {"small": pixels(), "features": torch.randn(BATCH, WIDTH)}
    trunks = {"small": SmallTrunk, "features": Features}
    words = [str(PEERS), "benchmarks/train_peers.py", str(torch.get_num_threads())]
    kept = {name: str(KEPT) for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")}  # as ours
    environment = os.environ | kept
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for trunk, count in (("features", 10), ("small", 10), ("features", 100), ("small", 100)):
            tasks = many_tasks(count)
            step = ours(trunks[trunk](), tasks, inputs[trunk])
            for arm in ARMS:
                measured = peer_ratio(process, f"{arm} {count} {trunk}", step, PEER_TURNS[count])
                rows.append(_row(f"{arm}, {count} tasks, {trunk}: its step over ours", measured, None))
                sys.stderr.write(f"{rows[-1].what}: {measured[0]:.2f} [{measured[1]:.2f}, {measured[2]:.2f}]\n")
        assert process.stdin
        process.stdin.close()
    return rows


PEER_TURNS = {10: 20, 100: 6}
"""Turns for so many tasks; with 100, a step of torchjd takes several seconds."""


def peer_ratio(process: "subprocess.Popen[str]", line: str, step: Arm, turns: int) -> tuple[float, float, float]:
    """The median of the peer's step over ours in CPU time, with its 95% interval (the whole range of few turns)."""
    assert process.stdin
    assert process.stdout
    found = []
    for turn in range(-2, turns):
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        theirs = float(process.stdout.readline())
        started = time.process_time()
        step(max(0, turn))
        if turn >= 0:
            found.append(theirs / (time.process_time() - started))
    found.sort()
    low, high = (int(stats.binom.ppf(point, turns, 0.5)) for point in (0.025, 0.975))
    return float(np.median(found)), found[low], found[min(high, turns - 1)]
