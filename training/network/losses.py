"""Masked, weighted losses of all tasks at once. An unknown label adds exactly 0 to the loss and to every gradient.

Tasks of one kind and about as many classes are computed together, whatever nodes of the tree their heads stand at. Maps
of boxes (`training.network.detection`) follow, a task at a time. The order of the tasks is restored on the sums, so no
step writes through a list of indices, which CUDA graphs cannot hold.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from curation.catalog.presence import UNSEEN
from samplers.plan.box_attributes import attribute_outputs
from samplers.plan.plan import PlanTask
from samplers.plan.presence import class_spans
from training.network.box_attributes import attribute_losses
from training.network.class_losses import masked_logistic
from training.network.detection import box_losses
from training.network.objects import Objects

__all__ = ["Layout", "LossGroup", "SoftLabels", "TaskLosses", "head_order", "scale_rows"]

PADDED = 16
"""Rows of a node's heads are a multiple of this: with fewer, a matrix product may sum in another order, and the outputs
of other tasks would change in their last bit when a task is added."""


Columns = Mapping[int, Tensor]
"""Parts [B, ...] of the network's outputs by their first column, as `Layout.split` gives them."""


@dataclass(frozen=True, kw_only=True)
class LossGroup:
    """Tasks (codes) whose losses are computed together.

    `pieces` are their columns among the outputs: a slice, the number of its tasks, and the outputs of each. `width` is
    the largest of these, to which the others are filled up; `classes` is the number of outputs of each task.
    """

    kind: str
    tasks: tuple[int, ...]
    width: int
    classes: tuple[int, ...]
    pieces: tuple[tuple[slice, int, int], ...]


class Layout:
    """The columns of each task among the network's O outputs.

    `columns[t]` is the slice of task t. `binary`, `regression`, `categorical` and `multilabel` list the tasks of each
    kind. Without `order`, tasks of one kind stand side by side. With `order`, the codes of the tasks at each node, the
    nodes follow each other, each filled up to a multiple of 16 columns. `linear` columns are those of linear heads;
    after them come the `maps` of tasks of boxes, by code their channels, height and width, each flattened.
    """

    def __init__(
        self, tasks: Sequence[PlanTask], order: Sequence[Sequence[int]] | None = None,
        maps: Mapping[int, tuple[int, int, int]] | None = None,
    ) -> None:  # fmt: skip
        self.kinds = [task.task.kind for task in tasks]
        self.binary = [t for t, kind in enumerate(self.kinds) if kind == "binary"]
        self.regression = [t for t, kind in enumerate(self.kinds) if kind == "regression"]
        self.categorical = [t for t, kind in enumerate(self.kinds) if kind == "categorical"]
        self.multilabel = [t for t, kind in enumerate(self.kinds) if kind == "multilabel"]
        self.columns: dict[int, slice] = {}
        self.nodes: list[slice] = []
        """The columns of each node of `order`."""
        self.outputs = 0
        every = [*self.binary, *self.regression, *self.categorical, *self.multilabel]
        for node in [every] if order is None else order:
            first = self.outputs
            for t in node:
                width = tasks[t].task.outputs
                self.columns[t] = slice(self.outputs, self.outputs + width)
                self.outputs += width
            if order is not None:
                self.outputs = first + -(-(self.outputs - first) // PADDED) * PADDED
            self.nodes.append(slice(first, self.outputs))
        self.groups = tuple(self._groups())
        self.linear, self.maps = self.outputs, dict(maps or {})
        for t, shape in self.maps.items():
            self.columns[t] = slice(self.outputs, self.outputs + math.prod(shape))
            self.outputs += math.prod(shape)
        spans = [span for group in self.groups for span, _, _ in group.pieces] + [self.columns[t] for t in self.maps]
        self._cuts = sorted({0, self.outputs, *(end for span in spans for end in (span.start, span.stop))})

    def split(self, outputs: Tensor) -> dict[int, Tensor]:
        """Outputs [B, O] in parts, by their first column: the pieces of groups, maps, and what fills up.

        The gradient of one split joins those of its parts; each slice would fill a matrix of O columns with zeros.
        """
        sizes = [end - begin for begin, end in pairwise(self._cuts)]
        return dict(zip(self._cuts, outputs.split(sizes, dim=1), strict=False))

    def _groups(self) -> Iterator[LossGroup]:
        keys = {t: (self.kinds[t], _padded_classes(_width(span))) for t, span in self.columns.items()}
        for key in sorted(set(keys.values())):
            mine = [t for t in self.columns if keys[t] == key]
            pieces = tuple(self._pieces(mine))
            yield LossGroup(
                kind=key[0], tasks=tuple(mine), width=max(width for _, _, width in pieces), pieces=pieces,
                classes=tuple(_width(self.columns[t]) for t in mine),
            )  # fmt: skip

    def _pieces(self, tasks: Sequence[int]) -> Iterator[tuple[slice, int, int]]:
        """Runs of tasks of one width whose columns follow each other."""
        spans = [self.columns[t] for t in tasks]
        starts = [0, *(i for i in range(1, len(spans)) if _breaks(spans[i - 1], spans[i]))]
        for begin, end in zip(starts, [*starts[1:], len(spans)], strict=True):
            yield slice(spans[begin].start, spans[end - 1].stop), end - begin, _width(spans[begin])


def head_order(tasks: Sequence[PlanTask], codes: Sequence[int], dropout: Mapping[int, float]) -> list[int]:
    """The codes of the tasks of one node, in the order of their rows: by dropout, then kind, then number of outputs."""
    return sorted(codes, key=lambda t: (dropout.get(t, 0.0), tasks[t].task.kind, tasks[t].task.outputs, t))


@dataclass(frozen=True, kw_only=True)
class SoftLabels:
    """Targets [B, O] that take the place of labels: class probabilities, or standardised numbers, and for which tasks.

    `learned` [T] marks these tasks.
    """

    targets: Tensor
    learned: Tensor


class TaskLosses(nn.Module):
    """The mean weighted loss of each task, over the draws of a global batch, unknown counting as 0.

    Binary: cross-entropy of one logit. Categorical: cross-entropy over the task's classes. Regression: half the squared
    error of the standardised target. Multilabel: as `class_losses`, summed over the classes that are known. Boxes: as
    `box_losses`. Each is divided by the loss of the best constant predictor, fixed in the plan. Attributes of boxes
    have constants of their own (`attribute_losses`); the loss of their task is the mean of all of these.
    `smoothing` [T] spreads a part of each class label evenly over the classes (Szegedy et al. 2016).
    """

    means: Tensor
    deviations: Tensor
    constants: Tensor
    importances: Tensor
    _order: Tensor
    _back: Tensor
    _smoothing: Tensor

    def __init__(
        self, tasks: Sequence[PlanTask], layout: Layout | None = None, smoothing: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.layout = layout or Layout(tasks)
        self.register_buffer("means", torch.tensor([task.mean for task in tasks]))
        self.register_buffer("deviations", torch.tensor([task.deviation for task in tasks]))
        self.register_buffer("constants", torch.tensor([task.constant_loss for task in tasks]))
        self.register_buffer("importances", torch.tensor([task.importance for task in tasks]))
        self.attributes = [task.attributes for task in tasks]
        linear = [t for group in self.layout.groups for t in group.tasks]
        order = torch.tensor([*linear, *self.layout.maps], dtype=torch.int64)
        self.register_buffer("_order", order, persistent=False)
        self.register_buffer("_back", torch.argsort(order), persistent=False)
        self.register_buffer("_smoothing", torch.tensor(smoothing or [0.0] * len(tasks)), persistent=False)
        self._smooth = any(smoothing or ())
        for number, group in enumerate(self.layout.groups):
            codes = torch.tensor(group.tasks)
            absent = torch.arange(group.width)[:, None] >= torch.tensor(group.classes)
            self.register_buffer(f"_codes{number}", codes, persistent=False)
            self.register_buffer(f"_absent{number}", absent, persistent=False)
            if group.kind == "multilabel":
                self.register_buffer(f"_states{number}", _state_columns(tasks, group), persistent=False)

    def forward(
        self, outputs: Tensor, values: Tensor, known: Tensor, weights: Tensor, *,
        total: int | None = None, soft: SoftLabels | None = None, presence: Tensor | None = None,
        objects: Objects | None = None,
    ) -> Tensor:  # fmt: skip
        """Losses [T] from outputs [B, O] and values, known, weights [B, T]: (1/G) sum of w_t loss_t, over c_t.

        `presence` [B, M] int8 are the classes of multilabel tasks, as in `Batch`, and `objects` the boxes of the draws;
        each is needed where there is such a task. G is `total`, the draws of the global batch of which these B are a
        part; by default B.
        """
        each = self.each(outputs, values, soft, presence, objects)
        known, weights = known.index_select(1, self._order), weights.index_select(1, self._order)
        sums = (torch.where(known, each, 0.0) * weights).sum(dim=0) / (total or len(values))
        return sums.index_select(0, self._back) / self.constants

    def each(
        self, outputs: Tensor, values: Tensor, soft: SoftLabels | None = None, presence: Tensor | None = None,
        objects: Objects | None = None,
    ) -> Tensor:  # fmt: skip
        """The loss of each draw and task [B, T], tasks in the order of `group_order`, known or not."""
        columns = self.layout.split(outputs.float())
        parts = [
            self._multilabel(number, columns, soft, presence)
            if group.kind == "multilabel" else self._group(number, columns, values, soft)
            for number, group in enumerate(self.layout.groups)
        ]  # fmt: skip
        for t, shape in self.layout.maps.items():
            assert objects is not None, "a task of boxes needs the draws' objects"
            maps = columns[self.layout.columns[t].start].reshape(len(outputs), *shape)
            parts.append(self._boxes(t, maps, objects.of_task(t))[:, None])
        return torch.cat(parts, dim=1)

    def maps_of(self, outputs: Tensor, task: int) -> Tensor:
        """The maps [B, C + 4 + A, h, w] of a task of boxes (code) among all outputs [B, O]."""
        return outputs[:, self.layout.columns[task]].reshape(len(outputs), *self.layout.maps[task])

    def attribute_maps(self, outputs: Tensor, task: int) -> Tensor:
        """The maps [B, A, h, w] of the attributes of a task of boxes (code), which are its last."""
        maps = self.maps_of(outputs, task)
        return maps[:, maps.shape[1] - attribute_outputs(self.attributes[task]) :]

    def _boxes(self, task: int, maps: Tensor, objects: Objects) -> Tensor:
        """Losses [B] of a task of boxes: c_t times the mean of the boxes' and each attribute's over their constants."""
        attributes = self.attributes[task]
        more = attribute_outputs(attributes)
        boxes, described = maps.split([maps.shape[1] - more, more], dim=1)
        found = box_losses(boxes, objects)
        if not attributes:
            return found
        own = attribute_losses(described, objects, attributes)
        return (found + self.constants[task] * own) / (1 + len(attributes))

    @property
    def group_order(self) -> Tensor:
        """The codes of the tasks [T] in the order of `each`."""
        return self._order

    def _group(self, number: int, columns: Columns, values: Tensor, soft: SoftLabels | None) -> Tensor:
        """Losses [B, n] of the tasks of one group."""
        group = self.layout.groups[number]
        codes: Tensor = getattr(self, f"_codes{number}")
        mine = _stacked(columns, group)
        target = values.index_select(1, codes)
        replaced = _stacked(self.layout.split(soft.targets), group, 0.0) if soft else None
        learned = soft.learned.index_select(0, codes) if soft else None
        if group.kind == "categorical":
            return self._categorical(number, mine, target.long(), replaced, learned)
        if group.kind == "regression":
            target = (target - self.means.index_select(0, codes)) / self.deviations.index_select(0, codes)
        elif self._smooth:
            smoothing = self._smoothing.index_select(0, codes)
            target = target * (1 - smoothing) + smoothing / 2
        if replaced is not None and learned is not None:
            target = torch.where(learned, replaced[:, 0], target)
        if group.kind == "regression":
            return 0.5 * (mine[:, 0] - target) ** 2
        return functional.binary_cross_entropy_with_logits(mine[:, 0], target, reduction="none")

    def _categorical(
        self, number: int, logits: Tensor, target: Tensor, replaced: Tensor | None, learned: Tensor | None
    ) -> Tensor:
        absent: Tensor = getattr(self, f"_absent{number}")
        chances = torch.log_softmax(logits, dim=1)
        if replaced is None and not self._smooth:
            return -chances.gather(1, target[:, None])[:, 0]
        smoothing = self._smoothing.index_select(0, getattr(self, f"_codes{number}"))
        even = (~absent).float() / (~absent).sum(dim=0, keepdim=True)
        wanted = functional.one_hot(target, logits.shape[1]).transpose(1, 2) * (1 - smoothing) + smoothing * even
        if replaced is not None and learned is not None:
            wanted = torch.where(learned, replaced, wanted)
        return -(torch.where(absent, 0.0, chances) * wanted).sum(dim=1)

    def _multilabel(self, number: int, columns: Columns, soft: SoftLabels | None, presence: Tensor | None) -> Tensor:
        """Losses [B, n] of the multilabel tasks of one group."""
        assert presence is not None, "a multilabel task learns from the presence of its classes"
        group = self.layout.groups[number]
        states: Tensor = getattr(self, f"_states{number}")
        padded = functional.pad(presence, (0, 1), value=UNSEEN)
        mine = padded.index_select(1, states.flatten()).unflatten(1, states.shape)
        smoothing = self._smoothing.index_select(0, getattr(self, f"_codes{number}"))
        targets = mine.clamp(min=0).float() * (1 - smoothing) + smoothing / 2
        if soft is not None:
            learned = soft.learned.index_select(0, getattr(self, f"_codes{number}"))
            targets = torch.where(learned, _stacked(self.layout.split(soft.targets), group, 0.0), targets)
        return masked_logistic(_stacked(columns, group, 0.0), targets, mine != UNSEEN).sum(dim=1)

    def objective(self, losses: Tensor) -> Tensor:
        """The objective: the sum of losses [T] times the tasks' importances."""
        return losses @ self.importances

    def answers(self, outputs: Tensor, task: int) -> Tensor:
        """Predictions of head `task`: class probabilities [B, C] under the plan's q, or numbers [B] in its unit.

        The probabilities of a multilabel task are of one class each: they have no sum.
        """
        mine = outputs[:, self.layout.columns[task]]
        kind = self.layout.kinds[task]
        if kind == "binary":
            chance = torch.sigmoid(mine[:, 0])
            return torch.stack([1 - chance, chance], dim=1)
        if kind == "categorical":
            return torch.softmax(mine, dim=1)
        if kind == "multilabel":
            return torch.sigmoid(mine)
        return mine[:, 0] * self.deviations[task] + self.means[task]

    def rates(self) -> Tensor:
        """What multiplies the learning rate of each output [O] under SGD, which is meant for one task of three classes.

        A head's gradient is proportional to importance / c_t, and its curvature to 1/4 (binary and multilabel), 1/C (C
        classes) or 1 (numbers); divided by both, every head takes steps of the size that the rate was chosen for.
        """
        rates = torch.ones(self.layout.outputs)
        for code, columns in self.layout.columns.items():
            curvature = {"binary": 0.25, "multilabel": 0.25, "categorical": 1 / (columns.stop - columns.start)}.get(
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


def _state_columns(tasks: Sequence[PlanTask], group: LossGroup) -> Tensor:
    """The columns [width, n] of a group's classes among those of all multilabel tasks; M where there is none."""
    spans = class_spans([task.task for task in tasks])
    last = max(span.stop for span in spans.values())
    places = torch.arange(group.width)
    rows = [torch.where(places < classes, spans[t].start + places, last)
            for t, classes in zip(group.tasks, group.classes, strict=True)]  # fmt: skip
    return torch.stack(rows, dim=1)


def _stacked(columns: Columns, group: LossGroup, fill: float = -torch.inf) -> Tensor:
    """The outputs of a group [B, width, n], filled up where a task has fewer.

    Tasks come last because a softmax over a few numbers in a row takes four times as long (docs/log.md).
    """
    parts = []
    for span, count, width in group.pieces:
        part = columns[span.start].unflatten(1, (count, width)).transpose(1, 2)
        more = (0, 0, 0, group.width - width)
        parts.append(functional.pad(part, more, value=fill) if width < group.width else part)
    return parts[0].contiguous() if len(parts) == 1 else torch.cat(parts, dim=2)


def _padded_classes(width: int) -> int:
    """The smallest of 1, 2, 3, 4, 6, 8, 12, 16, 24, ... that is at least `width`: few groups, little to fill up."""
    power = 1 << max(0, (width - 1).bit_length())
    return power * 3 // 4 if power >= 4 and width <= power * 3 // 4 else power


def _width(span: slice) -> int:
    return int(span.stop - span.start)


def _breaks(before: slice, after: slice) -> bool:
    return before.stop != after.start or _width(before) != _width(after)
