"""The boxes of one image on which most of several annotators agree."""

from collections.abc import Sequence
from contextlib import suppress
from statistics import median
from typing import Any, Final

import duckdb
import pyarrow as pa
from duckdb.func import SPECIAL, PythonUDFType

from curation.catalog.schema import BOXES

__all__ = ["LEAST_OVERLAP", "agreed_boxes", "register"]

LEAST_OVERLAP: Final = 0.5
"""Least intersection over union of two boxes of the same object (Everingham et al., IJCV 2010)."""

SIDES: Final = ("x", "y", "w", "h")

Box = dict[str, Any]


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Make `agreed_boxes(drawings)` callable in SQL."""
    boxes = duckdb.sqltype(BOXES)
    with suppress(duckdb.CatalogException):  # another handle of this process has registered it
        connection.create_function(
            "agreed_boxes", _agreed, [duckdb.list_type(boxes)], boxes, type=PythonUDFType.ARROW, null_handling=SPECIAL
        )


def agreed_boxes(drawings: Sequence[Sequence[Box]]) -> list[Box] | None:
    """The boxes that more than half of the annotators drew; None (undecided) if exactly half of them drew some box.

    `drawings` holds the boxes (code, x, y, w, h, attributes) of each annotator, oldest first. Boxes of different
    annotators and the same class are matched greedily, largest overlap first, into objects with at most one box per
    annotator. Each side of the result is the median over its annotators; attributes come from the newest box.

    >>> box = {"code": 0, "x": 0.0, "y": 0.0, "w": 10.0, "h": 10.0, "attributes": None}
    >>> [found["x"] for found in agreed_boxes([[box], [{**box, "x": 1.0}], [{**box, "x": 4.0}]])]
    [1.0]
    >>> agreed_boxes([[box], []]) is None
    True
    """
    objects = _objects([(person, box) for person, boxes in enumerate(drawings) for box in boxes])
    if any(2 * len(boxes) == len(drawings) for boxes in objects):
        return None
    return [_median_box(boxes) for boxes in objects if 2 * len(boxes) > len(drawings)]


def _agreed(drawings: pa.ChunkedArray) -> pa.Array:
    return pa.array([each and agreed_boxes(each) for each in drawings.to_pylist()], drawings.type.value_type)


def _objects(drawn: list[tuple[int, Box]]) -> list[list[Box]]:
    """The boxes of each object, in the order in which they were drawn."""
    pairs = [
        (_overlap(left, right), i, j)
        for j, (person, right) in enumerate(drawn)
        for i, (other, left) in enumerate(drawn[:j])
        if person != other and left["code"] == right["code"]
    ]
    objects = list(range(len(drawn)))
    people = [{person} for person, _ in drawn]
    for overlap, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
        one, other = objects[i], objects[j]
        if overlap >= LEAST_OVERLAP and one != other and not people[one] & people[other]:
            people[one] |= people[other]
            objects = [one if number == other else number for number in objects]
    return [
        [box for (_, box), number in zip(drawn, objects, strict=True) if number == one]
        for one in dict.fromkeys(objects)
    ]


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one["x"] + one["w"], other["x"] + other["w"]) - max(one["x"], other["x"])
    height = min(one["y"] + one["h"], other["y"] + other["h"]) - max(one["y"], other["y"])
    common = max(width, 0.0) * max(height, 0.0)
    return float(common / (one["w"] * one["h"] + other["w"] * other["h"] - common))


def _median_box(boxes: list[Box]) -> Box:
    return {**boxes[-1], **{side: median(box[side] for box in boxes) for side in SIDES}}
