"""The boxes of a plan's draws, for tasks of boxes: read once into arrays, looked up for the rows of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools, Floats, Int32s, Ints
from curation.catalog.ignored_boxes import ignored_boxes
from samplers.plan.box_attributes import BoxAttribute, attribute_values
from samplers.plan.plan import Plan

__all__ = ["SIDES", "DrawBoxes", "PlanBoxes", "has_boxes", "learned_of"]

SIDES = ("x", "y", "w", "h")


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawBoxes:
    """The N labelled boxes of a batch's draws, by draw and then by task.

    `draws` [N] are places in the batch, `tasks` [N] codes of the plan's tasks, `codes` [N] classes. `corners` [N, 4]
    are left, top, width and height in pixels of the upright image. `ignored` [N] marks regions that neither train nor
    judge (`curation.catalog.ignored_boxes`). `values` [N, K] are the attributes that are learned of a box's task, in
    the order of `PlanTask.attributes`: class codes or standardised numbers, NaN where unknown. A known label without
    boxes has none here: nothing is there.
    """

    draws: Ints
    tasks: Ints
    codes: Ints
    corners: Floats
    ignored: Bools
    values: Floats

    @classmethod
    def of_struct(
        cls, draws: Ints, tasks: Ints, boxes: pa.StructArray, attributes: Sequence[Sequence[BoxAttribute]]
    ) -> "DrawBoxes":
        """The boxes [N] of Arrow, which belong to these draws [N] and tasks [N]; `attributes` [T] are of each task."""
        sides = [np.asarray(pc.struct_field(boxes, side), np.float64) for side in SIDES]
        return cls(
            draws=draws, tasks=tasks, codes=np.asarray(pc.struct_field(boxes, "code"), np.int64),
            corners=np.stack(sides, axis=1).reshape(len(draws), 4), ignored=ignored_boxes(boxes),
            values=attribute_values(boxes, tasks, attributes),
        )  # fmt: skip

    @classmethod
    def none(cls, attributes: int = 0) -> "DrawBoxes":
        """No box, of tasks with at most so many attributes."""
        empty = np.zeros(0, np.int64)
        return cls(
            draws=empty, tasks=empty, codes=empty, corners=np.zeros((0, 4)), ignored=np.zeros(0, np.bool_),
            values=np.zeros((0, attributes)),
        )  # fmt: skip

    def taken(self, places: Bools | Ints) -> "DrawBoxes":
        """Only the boxes at these places."""
        return DrawBoxes(**{name: value[places] for name, value in vars(self).items()})


class PlanBoxes:
    """The boxes of all labels of a plan that has a task of boxes (`has_boxes`)."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        lists = plan.label_lists["boxes"].combine_chunks()
        self._counts = np.asarray(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(), np.int64)
        self._first = np.cumsum(self._counts) - self._counts
        flat = pc.list_flatten(lists)
        tasks = np.repeat(np.asarray(plan.label_task, np.int64), self._counts)
        self._boxes = DrawBoxes.of_struct(np.arange(len(flat)), tasks, flat, learned_of(plan))

    def of(self, rows: Int32s) -> DrawBoxes:
        """The boxes of the plan's samples `rows` [B]; row -1 is padding."""
        draw, entry = self._plan.label_entries(rows)
        counts = self._counts[entry]
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        found = self._boxes.taken(np.repeat(self._first[entry], counts) + within)
        return DrawBoxes(**{**vars(found), "draws": np.repeat(draw, counts)})


def has_boxes(plan: Plan) -> bool:
    """Whether a plan has a task of boxes."""
    return any(task.task.kind == "detection" for task in plan.tasks)


def learned_of(plan: Plan) -> list[tuple[BoxAttribute, ...]]:
    """The attributes of boxes that a plan learns, of each of its tasks [T]."""
    return [task.attributes for task in plan.tasks]
