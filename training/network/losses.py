"""Masked, weighted losses of all tasks at once. An unknown label adds exactly 0 to the loss and to every gradient."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from samplers.plan.plan import PlanTask

__all__ = ["Layout", "TaskLosses", "scale_rows"]


class Layout:
    """The columns of each task among the network's O outputs: tasks of one kind side by side.

    `columns[t]` is the slice of task t. `binary`, `regression` and `categorical` list the tasks of each kind.
    """

    def __init__(self, tasks: Sequence[PlanTask]) -> None:
        self.kinds = [task.task.kind for task in tasks]
        self.binary = [t for t, kind in enumerate(self.kinds) if kind == "binary"]
        self.regression = [t for t, kind in enumerate(self.kinds) if kind == "regression"]
        self.categorical = [t for t, kind in enumerate(self.kinds) if kind == "categorical"]
        self.columns: dict[int, slice] = {}
        self.outputs = 0
        for t in [*self.binary, *self.regression, *self.categorical]:
            width = tasks[t].task.outputs
            self.columns[t] = slice(self.outputs, self.outputs + width)
            self.outputs += width


class TaskLosses(nn.Module):
    """The mean weighted loss of each task, over the draws of a global batch, unknown counting as 0.

    Binary: cross-entropy of one logit. Categorical: cross-entropy over the task's classes. Regression: half the squared
    error of the standardised target. Each is divided by the loss of the best constant predictor, fixed in the plan.
    """

    means: Tensor
    deviations: Tensor
    constants: Tensor
    importances: Tensor
    places: Tensor
    absent: Tensor

    def __init__(self, tasks: Sequence[PlanTask]) -> None:
        super().__init__()
        self.layout = Layout(tasks)
        self.register_buffer("means", torch.tensor([task.mean for task in tasks]))
        self.register_buffer("deviations", torch.tensor([task.deviation for task in tasks]))
        self.register_buffer("constants", torch.tensor([task.constant_loss for task in tasks]))
        self.register_buffer("importances", torch.tensor([task.importance for task in tasks]))
        spans = [self.layout.columns[t] for t in self.layout.categorical]
        widest = max((span.stop - span.start for span in spans), default=0)
        places = [[min(span.start + c, span.stop - 1) for c in range(widest)] for span in spans]
        absent = [[span.start + c >= span.stop for c in range(widest)] for span in spans]
        self.register_buffer("places", torch.tensor(places, dtype=torch.long).reshape(len(spans), widest))
        self.register_buffer("absent", torch.tensor(absent, dtype=torch.bool).reshape(len(spans), widest))

    def forward(self, outputs: Tensor, values: Tensor, known: Tensor, weights: Tensor) -> Tensor:
        """Losses [T] from outputs [G, O] and values, known, weights [G, T]: (1/G) sum of w_t loss_t, over c_t."""
        layout = self.layout
        each = outputs.new_zeros(values.shape)
        if layout.binary:
            logits = outputs[:, : len(layout.binary)]
            target = values[:, layout.binary]
            each[:, layout.binary] = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if layout.regression:
            first = len(layout.binary)
            predicted = outputs[:, first : first + len(layout.regression)]
            target = (values[:, layout.regression] - self.means[layout.regression]) / self.deviations[layout.regression]
            each[:, layout.regression] = 0.5 * (predicted - target) ** 2
        if layout.categorical:
            logits = outputs[:, self.places].masked_fill(self.absent, -torch.inf)
            target = values[:, layout.categorical].long()
            each[:, layout.categorical] = functional.cross_entropy(logits.mT, target, reduction="none")
        masked = torch.where(known, each, 0.0) * weights
        return masked.mean(dim=0) / self.constants

    def objective(self, losses: Tensor) -> Tensor:
        """The objective: the sum of losses [T] times the tasks' importances."""
        return losses @ self.importances

    def rates(self) -> Tensor:
        """What multiplies the learning rate of each output [O] under SGD, which is meant for one task of three classes.

        A head's gradient is proportional to importance / c_t, and its curvature to 1/4 (binary), 1/C (C classes) or 1
        (numbers); divided by both, every head takes steps of the size that the rate was chosen for.
        """
        rates = torch.ones(self.layout.outputs)
        for code, columns in self.layout.columns.items():
            curvature = {"binary": 0.25, "categorical": 1 / (columns.stop - columns.start)}.get(
                self.layout.kinds[code], 1.0
            )
            scale = float(self.importances[code] / self.constants[code])
            rates[columns] = 1 / (3 * math.log(3) * max(scale, 1e-9) * curvature)
        return rates


def scale_rows(heads: nn.Linear, rates: Tensor) -> None:
    """Multiply the gradient of each head's rows by its rate [O]."""
    for parameter in (heads.weight, heads.bias):
        assert parameter.grad is not None
        parameter.grad *= rates[:, None] if parameter.dim() == 2 else rates
