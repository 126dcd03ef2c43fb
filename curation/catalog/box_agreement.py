"""Boxes that several people drew of one image: those on which most of them agree."""

from collections.abc import Sequence
from contextlib import suppress
from statistics import median
from typing import Any, Final

import duckdb
import pyarrow as pa
from duckdb.func import SPECIAL, PythonUDFType

from curation.catalog.schema import BOXES

__all__ = ["SAME", "agreed", "register"]

SAME: Final = 0.5
"""Boxes of one class are of the same thing from this intersection over union on (Everingham et al., IJCV 2010)."""

SIDES: Final = ("x", "y", "w", "h")

Box = dict[str, Any]


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Let SQL call `agreed` as `agreed_boxes(drawings)`."""
    boxes = duckdb.sqltype(BOXES)
    with suppress(duckdb.CatalogException):  # another handle of this process has registered it
        connection.create_function(
            "agreed_boxes", _agreed, [duckdb.list_type(boxes)], boxes, type=PythonUDFType.ARROW, null_handling=SPECIAL
        )


def agreed(drawings: Sequence[Sequence[Box]]) -> list[Box] | None:
    """The boxes that more than half of the people drew, or None where half of them drew one: nobody can tell.

    `drawings` are the boxes (code, x, y, w, h, attributes) of each, the oldest first. Pairs of different people and the
    same class are matched greedily, the largest overlap first, into things of which each person drew at most one box. A
    side is the median over those who drew it; attributes are the newest's.
    """
    things = _things([(person, box) for person, boxes in enumerate(drawings) for box in boxes])
    if any(2 * len(thing) == len(drawings) for thing in things):
        return None
    return [_middle(thing) for thing in things if 2 * len(thing) > len(drawings)]


def _agreed(drawings: pa.ChunkedArray) -> pa.Array:
    return pa.array([each and agreed(each) for each in drawings.to_pylist()], drawings.type.value_type)


def _things(drawn: list[tuple[int, Box]]) -> list[list[Box]]:
    """The boxes of each thing, in the order in which they were drawn."""
    pairs = [
        (_overlap(left, right), i, j)
        for j, (person, right) in enumerate(drawn)
        for i, (other, left) in enumerate(drawn[:j])
        if person != other and left["code"] == right["code"]
    ]
    thing = list(range(len(drawn)))
    people = [{person} for person, _ in drawn]
    for overlap, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
        one, other = thing[i], thing[j]
        if overlap >= SAME and one != other and not people[one] & people[other]:
            people[one] |= people[other]
            thing = [one if place == other else place for place in thing]
    return [[box for (_, box), place in zip(drawn, thing, strict=True) if place == one] for one in dict.fromkeys(thing)]


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one["x"] + one["w"], other["x"] + other["w"]) - max(one["x"], other["x"])
    height = min(one["y"] + one["h"], other["y"] + other["h"]) - max(one["y"], other["y"])
    common = max(width, 0.0) * max(height, 0.0)
    return float(common / (one["w"] * one["h"] + other["w"] * other["h"] - common))


def _middle(thing: list[Box]) -> Box:
    return {**thing[-1], **{side: median(box[side] for box in thing) for side in SIDES}}
