"""Why an image is drawn: its strata, the chance of a draw to be it, what its labels count, and who drew it."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from curation.errors import NotFound
from samplers.plan.plan import Plan

__all__ = ["Reason", "why"]


@dataclass(frozen=True, kw_only=True)
class Reason:
    """What one task has to do with one image, in one phase.

    `p` is the chance of a draw to be the image, of which `part` comes from this task's own wish, share x q; `weight` is
    what its label counts. `expected` draws of the phase are the image, for whichever task; `drawn` were for this one.
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


def why(plan: Plan, key: str) -> list[Reason]:
    """A row for each phase and task that knows a label of the image; NotFound when the plan does not hold it."""
    row = pc.index(plan.keys, key).as_py()
    if row < 0:
        raise NotFound(f"{key}: plan {plan.hash[:12]} does not draw it: no task with a share knows a label of it")
    mine = np.flatnonzero(plan.label_sample == row)
    tasks, strata = plan.label_task[mine], plan.label_stratum[mine]
    cells = plan.cell(tasks, strata)
    places = np.flatnonzero(plan.draws == row)
    phase_of, task_of = plan.phase_at(places), plan.draw_task[places]
    reasons = []
    for phase, length in enumerate(plan.phases.tolist()):
        parts = plan.shares[tasks] * plan.q[phase, cells]
        p = float(parts.sum())
        for task, stratum, cell, part in zip(
            tasks.tolist(), strata.tolist(), cells.tolist(), parts.tolist(), strict=True
        ):
            reasons.append(
                Reason(
                    task=plan.tasks[task].name, stratum=plan.tasks[task].strata[stratum], phase=phase,
                    labels=int(plan.sizes[cell]), target=float(plan.pi[phase, cell]), p=p, part=part,
                    weight=float(plan.q[phase, cell]) / p, expected=p * length,
                    drawn=int(((phase_of == phase) & (task_of == task)).sum()), hot=bool(plan.hot[phase, cell]),
                )
            )  # fmt: skip
    return reasons
