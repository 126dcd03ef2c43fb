"""Group selection: beside every division with every set of helpers for 8 tasks, and its time for 12; and the watch over
gradients: a step with it over a step without, in turns."""

import time
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import torch

from benchmarks.table import Row, cases_row, small
from benchmarks.train_steps import WIDTH, Arm, Features, learner, many_tasks, random_draws, ratio
from curation.arrays import Floats
from samplers.plan.plan import PlanTask
from training.dynamics.grouping import choose_groups
from training.loop.memory import keep_freed_memory

__all__ = ["group_rows"]

RUNS = 3 if small() else 20


def group_rows() -> list[Row]:
    """The rows of groups."""
    return [*_optimum_rows(8), _time_row(12), *_watch_rows()]


def _optimum_rows(count: int) -> Iterator[Row]:
    """How often the choice is the best of everything, for each number of networks, with and without helpers."""
    names, equal = [f"t{code}" for code in range(count)], 0
    for seed in range(RUNS):
        gains = np.random.default_rng(seed).normal(size=(count, count))
        np.fill_diagonal(gains, 0)
        for helpers in (False, True):
            best = _brute_force(gains, helpers=helpers)
            for networks in range(1, count + 1):
                found = choose_groups(names, gains, networks, helpers=helpers).gain
                equal += abs(found - max(best[:networks])) < 1e-9
    cases = 2 * count * RUNS
    yield cases_row(f"{count} tasks: the optimum of brute force", equal, cases, asked="100%", met=equal == cases)


def _brute_force(gains: Floats, *, helpers: bool) -> list[float]:
    """The largest mean of expected gains with exactly 1, 2, ... networks, over all divisions and all sets learned."""
    count = len(gains)
    sets = [frozenset(part) for size in range(count) for part in combinations(range(count), size + 1)]
    means = {learned: _means(gains, learned) for learned in sets}
    worth = {}
    for block in sets:
        learned = [each for each in sets if block <= each] if helpers else [block]
        worth[block] = max(sum(means[each][task] for task in block) for each in learned)
    best = [-np.inf] * count
    for blocks in _divisions(range(count)):
        value = sum(worth[block] for block in blocks) / count
        best[len(blocks) - 1] = max(best[len(blocks) - 1], value)
    return best


def _means(gains: Floats, learned: frozenset[int]) -> dict[int, float]:
    others = max(1, len(learned) - 1)
    return {task: float(gains[task, [each for each in learned if each != task]].sum()) / others for task in learned}


def _divisions(tasks: Sequence[int]) -> Iterator[list[frozenset[int]]]:
    if not tasks:
        yield []
        return
    first, rest = tasks[0], tasks[1:]
    for found in _divisions(rest):
        yield [frozenset([first]), *found]
        for at in range(len(found)):
            yield [*found[:at], found[at] | {first}, *found[at + 1 :]]


def _time_row(count: int) -> Row:
    """The longest of the choices into each number of networks, in CPU time; other work moves that on the clock."""
    gains, times = np.random.default_rng(0).normal(size=(count, count)), []
    for networks in range(1, count + 1):
        began, used = time.monotonic(), time.process_time()
        assert choose_groups([f"t{code}" for code in range(count)], gains, networks, helpers=True).proven
        times.append((time.process_time() - used, time.monotonic() - began))
    cpu, wall = max(times)
    return Row(
        what=f"{count} tasks, any number of networks, with helpers: the longest choice, CPU", value=cpu, unit=" s",
        asked="<= 10 s", met=cpu <= 10, peers={"on the clock": wall},
    )  # fmt: skip


def _watch_rows() -> Iterator[Row]:
    """A step of tasks on cached features, the cheapest there is, with their gradients watched over one without."""
    keep_freed_memory()
    vectors = torch.randn(64, WIDTH)
    for count in (10, 100):
        tasks = many_tasks(count)
        arms = [_step(tasks, vectors, watched=watched) for watched in (True, False)]
        value, low, high = ratio(*arms, turns=10 if small() else 40, steps=10)
        yield Row(
            what=f"step of {count} tasks on cached features, gradients watched, over without", value=value, low=low,
            high=high, unit="x", asked="<= 1.05", met=value <= 1.05,
        )  # fmt: skip


def _step(tasks: Sequence[PlanTask], vectors: torch.Tensor, *, watched: bool) -> Arm:
    made, draws = learner(Features(), tasks), random_draws(tasks, vectors)
    if not watched:
        made.affinity = None

    def step(number: int) -> None:
        made.step(draws, number, 1.0)

    return step
