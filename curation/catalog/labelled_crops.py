"""The boxes of a detection task, numbered from 1 in each image in the order of its label, as `boxes.TASK[1]` reads
them in a slice."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools, Floats, Ints
from curation.catalog.ignored_boxes import ignored_boxes
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.images.crops import Corners, crop_id, usable

__all__ = ["LabelledCrop", "LabelledCrops", "boxes_task"]


@dataclass(frozen=True, kw_only=True)
class LabelledCrop:
    """Box `number` (from 1) of a task on the image `key`, its `label` (a class), and its corners in pixels."""

    key: str
    task: str
    number: int
    label: str
    corners: Corners

    @property
    def id(self) -> str:
        """The name of the part of the image: two boxes in one place share it."""
        return crop_id(self.key, self.corners)

    @property
    def name(self) -> str:
        """How `amber similar` names it: KEY#TASK:N."""
        return f"{self.key}#{self.task}:{self.number}"


@dataclass(frozen=True, kw_only=True)
class LabelledCrops:
    """The n known boxes of a task at a snapshot: keys [n], numbers [n] in their image, codes [n] of classes (-1: none
    that is declared), corners [n, 4], which of them are `ignored` [n] regions of many objects, and whether they are
    large enough to be looked at (`usable` [n]). `flat` [n] is what Arrow holds of them, with attributes."""

    task: Task
    keys: list[str]
    numbers: Ints
    codes: Ints
    corners: Floats
    ignored: Bools
    usable: Bools
    flat: pa.StructArray

    @classmethod
    def at(cls, now: Snapshot, task: str) -> Self:
        """Those of a snapshot; BadInput for a task without boxes, NotFound for one that the catalog lacks."""
        declared, labels, samples = boxes_task(now, task), now.labels(task), now.samples()
        labels = labels.filter(pc.equal(labels["state"], KNOWN))
        lists = labels["boxes"]
        counts = np.asarray(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(), np.int64)
        flat = pc.list_flatten(lists)
        flat = flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat
        place = pc.index_in(labels["sample_id"], value_set=samples["sample_id"].combine_chunks())
        rows = np.repeat(np.asarray(place.to_numpy(), np.int64), counts)
        sizes = np.stack([samples[side].to_numpy() for side in ("width", "height")], axis=1).astype(np.int64)
        corners = np.stack([flat.field(side).to_numpy(zero_copy_only=False) for side in "xywh"], axis=1)
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        return cls(
            task=declared, keys=samples["key"].take(pa.array(rows)).to_pylist(),
            numbers=1 + np.arange(len(rows)) - starts,
            codes=np.asarray(pc.fill_null(flat.field("code"), -1).to_numpy(zero_copy_only=False), np.int64),
            corners=np.asarray(corners, np.float64).reshape(-1, 4), ignored=ignored_boxes(flat),
            usable=usable(np.asarray(corners, np.float64).reshape(-1, 4), sizes[rows]), flat=flat,
        )  # fmt: skip

    def crop(self, row: int) -> LabelledCrop:
        """One box, by its row."""
        code, corners = int(self.codes[row]), self.corners[row].tolist()
        return LabelledCrop(
            key=self.keys[row], task=self.task.name, number=int(self.numbers[row]),
            label=self.task.classes[code] if 0 <= code < len(self.task.classes) else "",
            corners=(corners[0], corners[1], corners[2], corners[3]),
        )  # fmt: skip

    def numbered(self, key: str, number: int) -> LabelledCrop:
        """Box `number` (from 1) of the image `key`; BadInput where it has none of this number."""
        rows = [row for row, name in enumerate(self.keys) if name == key]
        if not rows:
            raise BadInput(f"{key}#{self.task.name}:{number}: no box of {self.task.name} is known there; name another")
        if not 1 <= number <= len(rows):
            raise BadInput(f"{key}#{self.task.name}:{number}: it has the boxes 1 to {len(rows)}; name one of these")
        return self.crop(rows[number - 1])

    def by_place(self, keys: Container[str]) -> dict[str, list[LabelledCrop]]:
        """The boxes that can be looked at, on images among `keys`, by the name of their place (`LabelledCrop.id`)."""
        found = dict[str, list[LabelledCrop]]()
        for row in np.flatnonzero(self.usable & ~self.ignored).tolist():
            if self.keys[row] in keys:
                crop = self.crop(row)
                found.setdefault(crop.id, []).append(crop)
        return found


def boxes_task(now: Snapshot, name: str) -> Task:
    """A task of boxes; BadInput for one of another kind, NotFound for one that the catalog lacks."""
    task = now.task(name)
    if task.kind != "detection":
        raise BadInput(f"task {name}: is {task.kind} and has no boxes; name a task of the kind detection")
    return task
