"""Boxes against their images: rounding is moved onto the edge, empty boxes are dropped, and bad boxes are refused.

The ledger refuses bad boxes too, by label. Here each box is named by its own line, with its value and the rule.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Floats
from curation.catalog.event_tables import LABELS
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.ingestion.readers.box_forms import scaled
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.declared_base import BoxRules
from curation.ingestion.readers.findings import BadEntry, Findings

__all__ = ["SUSPECT", "with_checked_boxes"]

CLIPPED = 2.0
"""Pixels outside the image by which `outside = "clip"` moves an edge at most."""

SUSPECT = 1.5
"""A file whose boxes all lie within this many pixels of the corner holds fractions, most likely."""

Size = tuple[int, int]


def with_checked_boxes(
    content: Content, sizes: Mapping[str, Size], tasks: Collection[Task], rules: BoxRules, findings: Findings
) -> Content:
    """`content` with boxes inside their images (`sizes`: width and height by key); bad boxes are refused.

    A label with a refused box is dropped where entries are quarantined. A label whose only boxes were empty is dropped
    too: it does not say that there is nothing.
    """
    classes = {task.name: task.classes for task in tasks if task.kind == "detection"}
    checked = {}
    for name in ("labels", "held_back"):
        labels: pa.Table = getattr(content, name)
        origins = content.box_origins if content.box_origins is not None and len(labels) else None
        if origins is not None and len(origins) != len(labels):
            origins = None
        checked[name] = _Boxes.of(labels, origins, sizes, classes).checked(rules, content.fractions, findings)
    return replace(content, **checked, fractions=False)


@dataclass(frozen=True, kw_only=True)
class _Boxes:
    """The boxes of labels, flat: the label's row of each, its corner, and the size of its image (NaN if unknown)."""

    labels: pa.Table
    origins: pa.Array | None
    rows: npt.NDArray[np.int64]
    corner: tuple[Floats, Floats, Floats, Floats]
    size: tuple[Floats, Floats]
    known_class: npt.NDArray[np.bool_]
    classes: Mapping[str, Sequence[str]]

    @classmethod
    def of(
        cls, labels: pa.Table, origins: pa.Array | None, sizes: Mapping[str, Size], classes: Mapping[str, Sequence[str]]
    ) -> "_Boxes":
        """The boxes of `labels`."""
        boxes = labels["boxes"].combine_chunks()
        lengths = pc.fill_null(pc.list_value_length(boxes), 0).to_numpy()
        rows = np.repeat(np.arange(len(labels)), lengths)
        flat = pc.list_flatten(boxes)
        sides = [np.asarray(pc.fill_null(pc.struct_field(flat, side), math.nan), np.float64) for side in "xywh"]
        keys = labels["key"].take(pa.array(rows)).to_pylist()
        found = [sizes.get(key, (math.nan, math.nan)) for key in keys]
        size = np.asarray(found, np.float64).reshape(-1, 2)
        task = labels["task"].take(pa.array(rows)).to_pylist()
        names = pc.struct_field(flat, "class").to_pylist()
        known = [task_ not in classes or name in classes[task_] for task_, name in zip(task, names, strict=True)]
        return cls(
            labels=labels, origins=origins, rows=rows, corner=(sides[0], sides[1], sides[2], sides[3]),
            size=(size[:, 0], size[:, 1]), known_class=np.asarray(known, np.bool_), classes=classes,
        )  # fmt: skip

    def checked(self, rules: BoxRules, fractions: bool, findings: Findings) -> pa.Table:
        """The labels with sound boxes."""
        if not len(self.rows):
            return self.labels
        if rules.suspect:
            self._refuse_fractions(rules.per_file)
        x, y, w, h = self.corner
        width, height = self.size
        sound = (w > 0) & (h > 0) & (x >= 0) & (y >= 0) & ~(x + w > width) & ~(y + h > height) & self.known_class
        sound &= np.isfinite(x + y + w + h)
        if fractions:
            sound[:] = False
        if sound.all():
            return self.labels
        return self._repaired(np.unique(self.rows[~sound]).tolist(), rules, fractions, findings)

    def _refuse_fractions(self, per_file: bool) -> None:
        x, y, w, h = self.corner
        far = np.maximum(x + w, y + h)
        if not np.nanmin(far, initial=math.inf) <= SUSPECT:
            return
        form = r" (line|row|image|annotation|frame|item|sample|object) .*$"
        texts = pc.replace_substring_regex(pc.fill_null(self.labels["origin"], ""), form, "")
        files = np.asarray(texts.to_pylist() if per_file else [""] * len(self.labels))[self.rows]
        for file in dict.fromkeys(files.tolist()):
            inside = files == file
            if (far[inside] <= SUSPECT).all():
                at = int(np.flatnonzero(inside)[0])
                value = ", ".join(f"{name} = {side[at]:g}" for name, side in zip("xywh", self.corner, strict=True))
                raise BadEntry(
                    self._origin(at), f"{value}: all {int(inside.sum()):,} boxes",
                    f"end within {SUSPECT} pixels of the corner and look like fractions",
                    "set fractions = true in [reader], or fractions = false if they are pixels",
                )  # fmt: skip

    def _repaired(self, rows: list[int], rules: BoxRules, fractions: bool, findings: Findings) -> pa.Table:
        """The labels with these rows repaired, or dropped if they cannot be."""
        first = np.searchsorted(self.rows, rows)
        dropped, made, notes = [], [], _Notes()
        for row, start in zip(rows, first.tolist(), strict=True):
            boxes = None
            with findings.entry():
                boxes = self._boxes(row, start, rules, fractions, findings, notes)
            made.append(boxes)
            if boxes is None:
                dropped.append(row)
        findings.note_several(notes.empty, "box without area, dropped")
        findings.note_several(notes.clipped, "outside the image, clipped")
        order = np.arange(len(self.labels))
        order[rows] = len(self.labels) + np.arange(len(rows))
        column = self.labels["boxes"].combine_chunks()
        every = pa.concat_arrays([column, pa.array(made, LABELS.field("boxes").type)])
        table = self.labels.set_column(
            self.labels.schema.get_field_index("boxes"), "boxes", every.take(pa.array(order))
        )
        kept = np.ones(len(table), np.bool_)
        kept[dropped] = False
        return table.filter(pa.array(kept))

    def _boxes(
        self, row: int, start: int, rules: BoxRules, fractions: bool, findings: Findings, notes: "_Notes"
    ) -> list[dict[str, Any]] | None:
        """The sound boxes of one label; None if it has none left, or one was refused before."""
        kept = []
        boxes = self.labels["boxes"][row].as_py()
        task = self.labels["task"][row].as_py()
        for at, box in enumerate(boxes, start=start):
            size = None if math.isnan(self.size[0][at]) else (int(self.size[0][at]), int(self.size[1][at]))
            origin = self._origin(at)
            if origin in findings.origins:
                return None
            corner = [math.nan if box[side] is None else box[side] for side in "xywh"]
            if fractions and size is not None:
                corner = list(scaled(size, *corner))
            if not self.known_class[at]:
                names = ", ".join(self.classes[task])
                raise BadEntry(
                    origin, repr(box["class"]), f"is no class of {task} ({names})",
                    "correct it, set rename or leave_out in [reader], or add the class to [[task]]",
                )  # fmt: skip
            moved = _fitted(corner, size, rules, origin, notes)
            if moved is not None:
                kept.append(box | dict(zip("xywh", moved, strict=True)))
        return kept if kept or not boxes else None

    def _origin(self, at: int) -> str:
        """The origin of a box, or of its label."""
        row = int(self.rows[at])
        if self.origins is not None and self.origins[row].is_valid:
            found = self.origins[row].as_py()
            inside = at - int(np.searchsorted(self.rows, row))
            if inside < len(found):
                return str(found[inside])
        return str(self.labels["origin"][row].as_py() or self.labels["key"][row].as_py())


class _Notes:
    """The boxes that were dropped and clipped, each with its origin and value."""

    def __init__(self) -> None:
        self.empty: list[str] = []
        self.clipped: list[str] = []


def _fitted(
    corner: Sequence[float], size: Size | None, rules: BoxRules, origin: str, notes: _Notes
) -> tuple[float, float, float, float] | None:
    """The box inside its image; None for a box without area. BadEntry for a box that is inverted or outside."""
    x, y, w, h = corner
    value = f"box {x:g}, {y:g}, {w:g}, {h:g}"
    if not all(math.isfinite(side) for side in corner):
        raise BadEntry(origin, value, "has a number that is missing or not finite", "correct it")
    if w < 0 or h < 0:
        raise BadEntry(origin, value, "is inverted: width and height must be above 0", "swap its corners")
    if w == 0 or h == 0:
        notes.empty.append(f"{origin}: {value}")
        return None
    if size is None:
        return x, y, w, h
    outside = max(-x, -y, x + w - size[0], y + h - size[1], 0.0)
    near, far = max(-x, -y), max(x + w - size[0], y + h - size[1])
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, size[0]), min(y + h, size[1])
    rounding = near <= rules.slack and far <= rules.far_slack
    if not rounding and not (rules.clip and outside <= CLIPPED):
        raise _outside(origin, value, outside, size, rules)
    if right <= left or bottom <= top:
        raise BadEntry(origin, value, f"lies outside the image of {size[0]} x {size[1]} pixels", "correct it")
    if not rounding:
        notes.clipped.append(f"{origin}: {value} in {size[0]} x {size[1]}")
    return left, top, _side(left, right), _side(top, bottom)


def _side(low: float, high: float) -> float:
    """The length of a side; low + length must not round to a value past `high`."""
    length = high - low
    return length if low + length <= high else math.nextafter(length, 0)


def _outside(origin: str, value: str, outside: float, size: Size, rules: BoxRules) -> BadInput:
    fix = "correct it"
    if not rules.clip and outside <= CLIPPED:
        fix = 'correct it, or set outside = "clip" in [reader]'
    elif rules.clip:
        fix = f"correct it: edges at most {CLIPPED:g} pixels outside are clipped"
    return BadEntry(origin, value, f"lies {outside:.4g} pixels outside the image of {size[0]} x {size[1]} pixels", fix)
