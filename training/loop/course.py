"""The course of a run: the plans that it follows, each from an exact position on, all in the words of the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from curation.arrays import Bools, Float32s, Int8s, Ints
from curation.catalog.presence import UNSEEN
from samplers.plan.boxes import DrawBoxes, has_boxes, learned_of
from samplers.plan.plan import Plan
from samplers.plan.presence import class_spans
from samplers.streaming.batches import Batch

__all__ = ["Course", "Segment"]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Positions from `start` on are the draws of `plan`, which count from 0.

    `columns` [T'] are the codes of its tasks in the course's first plan, `classes` [M'] the columns there of its
    multilabel tasks' classes, `rows` [S'] the rows there of its samples. `boxed` says whether the first plan has a task
    of boxes, `attributes` the most that are learned of one.
    """

    start: int
    plan: Plan
    columns: Ints
    classes: Ints
    rows: Ints
    boxed: bool = False
    attributes: int = 0

    def labels(self, batch: Batch, tasks: int) -> tuple[Float32s, Bools, Float32s]:
        """Values, known and weights [B, T] of a batch for all tasks of the first plan; the others are unknown."""
        if len(self.columns) == tasks and (self.columns == np.arange(tasks)).all():
            return batch.values, batch.known, batch.weights
        shape = (len(batch.rows), tasks)
        values, known, weights = np.zeros(shape, np.float32), np.zeros(shape, np.bool_), np.zeros(shape, np.float32)
        values[:, self.columns], known[:, self.columns] = batch.values, batch.known
        weights[:, self.columns] = batch.weights
        return values, known, weights

    def boxes(self, batch: Batch) -> DrawBoxes | None:
        """The boxes of a batch, whose tasks are codes in the first plan; None where that plan has no task of boxes."""
        found = batch.boxes
        if found is None:
            return DrawBoxes.none(self.attributes) if self.boxed else None
        return DrawBoxes(**{**vars(found), "tasks": self.columns[found.tasks]})

    def presence(self, batch: Batch, classes: int) -> Int8s:
        """The presence [B, M] of the classes of all multilabel tasks of the first plan; others are unknown."""
        if len(self.classes) == classes and (self.classes == np.arange(classes)).all():
            return batch.presence
        found = np.full((len(batch.rows), classes), UNSEEN, np.int8)
        found[:, self.classes] = batch.presence
        return found


class Course:
    """The segments of a run on the plan `root`; at first the whole of it, or of `plan`, over tasks of `root`."""

    def __init__(self, root: Plan, plan: Plan | None = None) -> None:
        self.root = root
        self.segments = [self._segment(0, plan or root)]

    @property
    def tasks(self) -> int:
        """The number of tasks T."""
        return len(self.root.tasks)

    @property
    def classes(self) -> int:
        """The number M of classes of all multilabel tasks."""
        return sum(len(task.task.classes) for task in self.root.tasks if task.task.kind == "multilabel")

    @property
    def now(self) -> Segment:
        """The last segment."""
        return self.segments[-1]

    def follow(self, start: int, plan: Plan) -> None:
        """From position `start` on, draw from `plan`."""
        self.segments.append(self._segment(start, plan))

    def state(self) -> list[tuple[int, str]]:
        """The start and the plan's hash of each segment."""
        return [(segment.start, segment.plan.hash) for segment in self.segments]

    def restore(self, state: Sequence[tuple[int, str]], home: Path) -> None:
        """The segments of `state`."""
        self.segments = [self._segment(start, Plan.open(home, hash_)) for start, hash_ in state]

    def _segment(self, start: int, plan: Plan) -> Segment:
        codes = {task.name: code for code, task in enumerate(self.root.tasks)}
        columns = np.array([codes[task.name] for task in plan.tasks], np.int64)
        spans = class_spans([task.task for task in self.root.tasks])
        classes = [np.arange(spans[code].start, spans[code].stop) for code in columns.tolist() if code in spans]
        rows = np.arange(len(plan.keys))
        if plan.hash != self.root.hash:
            rows = pc.index_in(plan.keys, value_set=self.root.keys).to_numpy().astype(np.int64)
        return Segment(
            start=start, plan=plan, columns=columns, rows=rows, boxed=has_boxes(self.root),
            attributes=max(map(len, learned_of(self.root))),
            classes=np.concatenate([np.zeros(0, np.int64), *classes]),
        )  # fmt: skip
