"""The labels that each task of a plan learns from, with the plan's weights, for heads that learn without draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.arrays import Floats, Int8s, Ints
from curation.catalog.snapshot import Snapshot
from samplers.plan.plan import Plan, PlanTask
from samplers.plan.presence import class_spans
from training.network.exact import Loss
from training.network.folds import strata_of

__all__ = ["TaskLabels", "groups_of", "task_labels"]


@dataclass(frozen=True, kw_only=True)
class TaskLabels:
    """The n labels of a task: `rows` [n] among the plan's samples, ascending.

    `values` [n] are class codes or standardised numbers; `weights` [n] are q of the plan's last phase and sum to 1;
    `names` [n] are the samples' groups. Of a multilabel task, values are the rarest class present, and `presence`
    [n, C] says of each class 1: there, 0: not there, -1: unknown.
    """

    task: PlanTask
    rows: Ints
    values: Floats
    weights: Floats
    names: npt.NDArray[np.str_]
    presence: Int8s | None = None

    @property
    def groups(self) -> Ints:
        """Codes of the groups [n], within this task."""
        return np.asarray(np.unique(self.names, return_inverse=True)[1], np.int64)

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(np.unique(self.names))

    @property
    def outputs(self) -> int:
        """The number of outputs of the head."""
        return self.task.task.outputs

    @property
    def numeric(self) -> bool:
        """Whether the task predicts a number."""
        return self.task.task.kind == "regression"

    @property
    def classes(self) -> int:
        """How many classes have a label (of a multilabel task: are there in one); 0 for a number."""
        if self.presence is not None:
            return int((self.presence == 1).any(axis=0).sum())
        return 0 if self.numeric else len(np.unique(self.values))

    @property
    def constant(self) -> bool:
        """Whether all labels say the same, so that nothing can be learned from them."""
        if self.presence is not None:
            return not ((self.presence == 1).any(axis=0) & (self.presence == 0).any(axis=0)).any()
        return self.classes == 1

    @property
    def targets(self) -> npt.NDArray[np.generic]:
        """What a solver fits: class codes or numbers [n], or the states of classes [n, C]."""
        if self.presence is not None:
            return self.presence
        return self.values if self.numeric else self.values.astype(np.int64)

    @property
    def strata(self) -> Ints:
        """What folds are balanced by [n]."""
        return strata_of(self.values, numeric=self.numeric)

    def loss(self, *, huber: bool = False) -> Loss:
        """The loss of one label."""
        if self.numeric:
            return "huber" if huber else "regression"
        if self.presence is not None:
            return "multilabel"
        return "binary" if self.task.task.kind == "binary" else "categorical"


def task_labels(plan: Plan, groups: Sequence[str]) -> list[TaskLabels]:
    """The labels of each task of `plan`; `groups` [S] names the group of each sample.

    A task's labels depend on its own labels and rule alone, not on the other tasks of the plan.
    """
    cells = plan.cell(plan.label_task, plan.label_stratum)
    names = np.asarray(groups, dtype=object).astype(str)
    spans, found = class_spans([task.task for task in plan.tasks]), []
    for code, task in enumerate(plan.tasks):
        mine = np.flatnonzero((plan.label_task == code) & (plan.q[-1, cells] > 0))
        rows, weights = plan.label_sample[mine].astype(np.int64), plan.q[-1, cells[mine]]
        values = np.asarray(plan.label_value[mine], np.float64)
        if task.task.kind == "regression":
            values = (values - task.mean) / task.deviation
        found.append(
            TaskLabels(
                task=task,
                rows=rows,
                values=values,
                weights=weights / weights.sum(),
                names=names[rows],
                presence=plan.presence(rows.astype(np.int32))[:, spans[code]] if code in spans else None,
            )
        )
    return found


def groups_of(then: Snapshot, plan: Plan) -> list[str]:
    """The group of each sample of the plan [S], at the plan's commit."""
    samples = then.samples()
    group = dict(zip(samples["key"].to_pylist(), samples["group"].to_pylist(), strict=True))
    return [str(group[key]) for key in plan.keys.to_pylist()]
