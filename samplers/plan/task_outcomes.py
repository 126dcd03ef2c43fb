"""What every task gets from a plan: share, effective sample size, distinct images and repeats."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.arrays import Floats, Ints
from curation.rows import tabled
from samplers.plan.plan import Plan

__all__ = ["TaskOutcome", "task_outcomes"]


@dataclass(frozen=True, kw_only=True)
class TaskOutcome:
    """What a task gets from a plan.

    `ess` is the effective sample size in closed form, draws / sum q^2/p; `drawn_ess` is that of the actual draws;
    `distinct_ess` counts repeats of an image once: (sum W)^2 / sum W^2, with W the total weight of an image's draws.
    `distinct` is the number of images that the task learns from, `most_repeated` the draws of its most drawn image.
    """

    task: str
    owner: str
    share: float
    importance: float
    labels: int
    ess: float
    drawn_ess: float
    distinct_ess: float
    distinct: int
    most_repeated: int


@tabled(TaskOutcome)
def task_outcomes(plan: Plan) -> list[TaskOutcome]:
    """One row per task of the plan, in the plan's order.

    >>> [(row.task, row.share) for row in task_outcomes(plan)]
    [('color', 1.0)]
    """
    tasks = len(plan.tasks)
    cells = plan.cell(plan.label_task, plan.label_stratum)
    second, squares, mass = np.zeros(tasks), np.zeros(tasks), np.zeros(len(cells))
    for phase, (begin, end) in enumerate(pairwise([0, *np.cumsum(plan.phases).tolist()])):
        weight = plan.label_weights(phase)
        times = np.bincount(plan.draws[begin:end], minlength=len(plan.keys))[plan.label_sample]
        second += (end - begin) * np.bincount(plan.label_task, weight * plan.q[phase, cells], minlength=tasks)
        squares += np.bincount(plan.label_task, times * weight**2, minlength=tasks)
        mass += times * weight
    drawn = np.bincount(plan.label_task, mass, minlength=tasks)
    repeats = _most_repeated(plan)
    columns = (
        len(plan.draws) ** 2 / second, _ratio(drawn, squares),
        _ratio(drawn, np.bincount(plan.label_task, mass**2, minlength=tasks)),
        np.bincount(plan.label_task, mass > 0, minlength=tasks).astype(np.int64), repeats,
        np.bincount(plan.label_task, minlength=tasks),
    )  # fmt: skip
    return [
        TaskOutcome(
            task=task.name, owner=task.owner, share=float(share), importance=task.importance, labels=labels, ess=ess,
            drawn_ess=drawn_ess, distinct_ess=distinct_ess, distinct=distinct, most_repeated=most,
        )
        for task, share, ess, drawn_ess, distinct_ess, distinct, most, labels in zip(
            plan.tasks, plan.shares, *(column.tolist() for column in columns), strict=True
        )
    ]  # fmt: skip


def _ratio(total: npt.NDArray[Any], squares: npt.NDArray[Any]) -> Floats:
    """total^2 / squares; 0 for a task without draws."""
    return np.asarray(np.divide(total**2, squares, out=np.zeros(len(total)), where=squares > 0), np.float64)


def _most_repeated(plan: Plan) -> Ints:
    """For each task, the number of draws of its most drawn image [T]."""
    pairs = np.sort(plan.draw_task.astype(np.int64) * len(plan.keys) + plan.draws)
    starts = np.flatnonzero(np.diff(pairs, prepend=-1))
    most = np.zeros(len(plan.tasks), np.int64)
    np.maximum.at(most, pairs[starts] // len(plan.keys), np.diff(starts, append=len(pairs)))
    return most
