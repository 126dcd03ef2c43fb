"""The json sidecar of each draw of a materialized plan.

    {"key": "drive-7/0042", "position": 17,
     "labels": {"color": "yellow", "speed": 31.5, "signs": ["stop", "yield"],
                "things": [{"class": "light", "x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0}]},
     "weights": {"color": 1.25, "speed": 0.5, "signs": 0.75, "things": 0.75}}

`labels` holds the known labels by task: the class of a binary or categorical task, the number of a regression task, the
list of classes of a multilabel task, the list of boxes of a detection task; [] means annotated as having none. Where
somebody looked only for some classes of a multilabel task, `looked` lists these by task. A box
has its left and top edge, width and height in pixels of the upright ingested image, and `attributes` (name: text) if it
has any. `weights` holds the weight of every label.
"""

import json
from itertools import pairwise
from json.encoder import encode_basestring_ascii as quoted

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Int16s, Int32s, Ints
from samplers.plan.plan import Plan

__all__ = ["Sidecars"]

_SIDES = ("x", "y", "w", "h")


class Sidecars:
    """Writes sidecars of many draws at once, exactly as `json.dumps` writes them."""

    def __init__(self, plan: Plan) -> None:
        self._plan, tasks = plan, [task.task for task in plan.tasks]
        self._names = [quoted(task.name) for task in tasks]
        self._classes = np.array([quoted(name) for task in tasks for name in task.classes], object)
        self._first_class = np.cumsum([0, *(len(task.classes) for task in tasks)])
        kinds = np.array([task.kind for task in tasks])
        self._writers = [
            (np.isin(kinds, ("binary", "categorical")), self._single), (kinds == "regression", self._number),
            (kinds == "multilabel", self._class_lists), (kinds == "detection", self._boxes),
        ]  # fmt: skip
        self._lists = plan.label_lists.combine_chunks()

    def texts(self, start: int, rows: Int32s) -> list[bytes]:
        """The sidecars of the draws from position `start` on, which are the plan's samples `rows`."""
        _, _, weights = self._plan.labels(rows, np.arange(start, start + len(rows)))
        draw, entry = self._plan.label_entries(rows)
        task = self._plan.label_task[entry]
        names = [self._names[code] for code in task.tolist()]
        texts = self._texts(task, entry)
        labels = [f"{name}: {text}" for name, text in zip(names, texts, strict=True)]
        weight_texts = [f"{name}: {weight}" for name, weight in zip(names, weights[draw, task].tolist(), strict=True)]
        looked = self._looked(draw, task, entry, len(rows))
        bounds = np.searchsorted(draw, np.arange(len(rows) + 1)).tolist()
        keys = self._plan.keys.take(rows).to_pylist()
        return [
            f'{{"key": {quoted(key)}, "position": {start + i}, "labels": {{{", ".join(labels[first:last])}}}, '
            f'"weights": {{{", ".join(weight_texts[first:last])}}}{looked[i]}}}'.encode()
            for i, (key, (first, last)) in enumerate(zip(keys, pairwise(bounds), strict=True))
        ]

    def _looked(self, draw: Ints, task: Int16s, entry: Ints, draws: int) -> list[str]:
        """For each draw, the field `looked` with a comma before it; "" where all classes were looked for."""
        found = [""] * draws
        if "looked" not in self._lists.column_names:
            return found
        lists = self._lists["looked"].chunk(0).take(pa.array(entry))
        partial = np.flatnonzero(lists.is_valid())
        lists = lists.take(pa.array(partial))
        texts = _listed(lists, self._named(task[partial], lists, lists.flatten()))
        parts: dict[int, list[str]] = {}
        for at, code, text in zip(draw[partial].tolist(), task[partial].tolist(), texts, strict=True):
            parts.setdefault(at, []).append(f"{self._names[code]}: {text}")
        for at, fields in parts.items():
            found[at] = f', "looked": {{{", ".join(fields)}}}'
        return found

    def _texts(self, task: Int16s, entry: Ints) -> list[str]:
        """The labels at indices `entry` [K] of the plan's label arrays, which are of `task` [K], as JSON."""
        texts = np.empty(len(task), object)
        for of_kind, write in self._writers:
            mine = of_kind[task]
            if mine.any():
                texts[mine] = write(task[mine], entry[mine])
        return list(texts)

    def _single(self, task: Int16s, entry: Ints) -> list[str]:
        return list(self._classes[self._first_class[task] + self._plan.label_value[entry].astype(np.int64)])

    def _number(self, _: Int16s, entry: Ints) -> list[str]:
        return list(map(str, self._plan.label_value[entry].tolist()))

    def _class_lists(self, task: Int16s, entry: Ints) -> list[str]:
        codes = self._lists["codes"].chunk(0).take(pa.array(entry))
        return _listed(codes, self._named(task, codes, codes.flatten()))

    def _boxes(self, task: Int16s, entry: Ints) -> list[str]:
        boxes = self._lists["boxes"].chunk(0).take(pa.array(entry))
        flat = boxes.flatten()
        classes = self._named(task, boxes, pc.struct_field(flat, "code"))
        sides = [pc.struct_field(flat, side).to_pylist() for side in _SIDES]
        texts = [
            f'{{"class": {name}, "x": {x}, "y": {y}, "w": {w}, "h": {h}}}'
            for name, x, y, w, h in zip(classes, *sides, strict=True)
        ]
        attributes = pc.struct_field(flat, "attributes")
        for box in np.flatnonzero(pc.fill_null(pc.is_valid(attributes), False)).tolist():
            more = json.dumps(dict(attributes[box].as_py()))
            texts[box] = f'{texts[box][:-1]}, "attributes": {more}}}'
        return _listed(boxes, texts)

    def _named(self, task: Int16s, lists: pa.ListArray, codes: pa.Array) -> list[str]:
        """The quoted class names of `codes`, the flattened `lists` [K] of tasks [K]."""
        counts = np.asarray(pc.list_value_length(lists))
        classes = np.repeat(self._first_class[task], counts) + np.asarray(codes)
        return list(self._classes[classes])


def _listed(lists: pa.ListArray, texts: list[str]) -> list[str]:
    """Each list as JSON; `texts` are the elements of all lists."""
    stops = np.cumsum(np.asarray(pc.list_value_length(lists))).tolist()
    return [f"[{', '.join(texts[first:last])}]" for first, last in pairwise([0, *stops])]
