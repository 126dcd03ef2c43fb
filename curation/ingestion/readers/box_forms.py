"""Conversion of boxes from other formats to ours."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Box", "Classes", "box", "fitted", "scaled", "turned"]

Box = dict[str, Any]
"""One box of `readers.content.BOX`."""

_SLACK = 1e-4  # of the width: covers the rounding of a fraction with six digits


class Classes(NamedTuple):
    """The classes of a source that are read, and their names in the task."""

    rename: Mapping[str, str]
    leave_out: Collection[str]

    def named(self, name: str) -> str | None:
        """The task's name for a class of the source, or None if the class is left out."""
        return None if name in self.leave_out else self.rename.get(name, name)


def box(name: str, x: float, y: float, w: float, h: float, attributes: Mapping[str, object] | None = None) -> Box:
    """A box of class `name`; attributes that are null, lists or objects are dropped."""
    texts = [
        (key, _text(value)) for key, value in (attributes or {}).items() if isinstance(value, str | bool | int | float)
    ]
    return {"class": name, "x": x, "y": y, "w": w, "h": h, "attributes": texts or None}


def scaled(size: tuple[int, int], x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
    """A box in fractions of the image, converted to pixels; `size` is the image's width and height.

    >>> scaled((200, 100), 0.25, 0.5, 0.5, 0.25)
    (50.0, 50.0, 100.0, 25.0)
    """
    width, height = size
    return fitted(size, x * width, y * height, w * width, h * height)


def fitted(size: tuple[int, int], x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
    """A box in pixels; edges outside the image by no more than rounding are moved onto the image's edge."""
    left, right = _edges(x, x + w, size[0])
    top, bottom = _edges(y, y + h, size[1])
    return left, top, right - left, bottom - top


def turned(x: float, y: float, w: float, h: float, degrees: float) -> tuple[float, float, float, float]:
    """The axis-aligned box around a box that is rotated clockwise about its upper left corner."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners: Sequence[tuple[float, float]] = [
        (x + dx * cos - dy * sin, y + dx * sin + dy * cos) for dx in (0, w) for dy in (0, h)
    ]
    xs, ys = [corner[0] for corner in corners], [corner[1] for corner in corners]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _edges(low: float, high: float, length: int) -> tuple[float, float]:
    slack = _SLACK * length
    if -slack <= low < 0:
        low = 0.0
    if length < high <= length + slack:
        high = float(length)
    if high > length - 1 and low + (high - low) > length:  # x + w must not round to a value past the edge
        high = math.nextafter(high, 0)
    return low, high


def _text(value: str | bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
