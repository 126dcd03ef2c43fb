"""Why an image is drawn: its strata, its probability, the weights of its labels, and the tasks that draw it."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from curation.errors import NotFound
from curation.rows import tabled
from samplers.plan.plan import Plan

__all__ = ["DrawReason", "explain_draws"]


@dataclass(frozen=True, kw_only=True)
class DrawReason:
    """The part of one task in the draws of one image, in one phase.

    `p` is the probability that a draw of the phase is this image; `part` = share x q is this task's contribution to
    it. `weight` is the weight of the task's label. `expected` is the expected number of draws of the image for all
    tasks, `drawn` the number of draws for this task.
    """

    task: str
    stratum: str
    phase: int
    labels: int
    target: float
    p: float
    part: float
    weight: float
    expected: float
    drawn: int
    hot: bool


@tabled(DrawReason)
def explain_draws(plan: Plan, key: str) -> list[DrawReason]:
    """One row per phase and task that has a label of the image; NotFound if the plan does not draw `key`.

    >>> reasons = explain_draws(plan, plan.keys[0].as_py())
    >>> all(0 <= reason.part <= reason.p <= 1 for reason in reasons)
    True
    """
    row = pc.index(plan.keys, key).as_py()
    if row < 0:
        raise NotFound(f"{key}: plan {plan.hash[:12]} does not draw it; label it for a task with a share, then plan")
    mine = np.flatnonzero(plan.label_sample == row)
    tasks, strata = plan.label_task[mine], plan.label_stratum[mine]
    cells = plan.cell(tasks, strata)
    positions = np.flatnonzero(plan.draws == row)
    phase_of, task_of = plan.phase_at(positions), plan.draw_task[positions]
    reasons = []
    for phase, length in enumerate(plan.phases.tolist()):
        parts = plan.shares[tasks] * plan.q[phase, cells]
        p = float(parts.sum())
        for task, stratum, cell, part in zip(
            tasks.tolist(), strata.tolist(), cells.tolist(), parts.tolist(), strict=True
        ):
            reasons.append(
                DrawReason(
                    task=plan.tasks[task].name, stratum=plan.tasks[task].strata[stratum], phase=phase,
                    labels=int(plan.sizes[cell]), target=float(plan.pi[phase, cell]), p=p, part=part,
                    weight=float(plan.q[phase, cell]) / p, expected=p * length,
                    drawn=int(((phase_of == phase) & (task_of == task)).sum()), hot=bool(plan.hot[phase, cell]),
                )
            )  # fmt: skip
    return reasons
