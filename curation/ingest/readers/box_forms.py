"""Boxes on their way from a foreign format to ours."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Box", "Classes", "box", "fitted", "scaled", "turned"]

Box = dict[str, Any]
"""One box of `readers.content.BOX`."""

_SLACK = 1e-4  # of the width: what a fraction of six digits can be off by, with room


class Classes(NamedTuple):
    """Which classes of a source are taken, and under which name."""

    rename: Mapping[str, str]
    leave_out: Collection[str]

    def named(self, name: str) -> str | None:
        """The task's own name of a class, or None when it is left out."""
        return None if name in self.leave_out else self.rename.get(name, name)


def box(name: str, x: float, y: float, w: float, h: float, attributes: Mapping[str, object] | None = None) -> Box:
    """A box of class `name`; of the attributes those that are null, lists or objects are left out."""
    said = [
        (key, _text(value)) for key, value in (attributes or {}).items() if isinstance(value, str | bool | int | float)
    ]
    return {"class": name, "x": x, "y": y, "w": w, "h": h, "attributes": said or None}


def scaled(size: tuple[int, int], x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
    """A box in fractions of an image, in pixels of one of that width and height."""
    width, height = size
    return fitted(size, x * width, y * height, w * width, h * height)


def fitted(size: tuple[int, int], x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
    """A box in pixels of which edges that lie outside by a rounding of fractions are moved onto the image's edge."""
    left, right = _edges(x, x + w, size[0])
    top, bottom = _edges(y, y + h, size[1])
    return left, top, right - left, bottom - top


def turned(x: float, y: float, w: float, h: float, degrees: float) -> tuple[float, float, float, float]:
    """The upright box around one that is turned clockwise about its left upper corner."""
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
    if high > length - 1 and low + (high - low) > length:  # what is added up again must not pass the edge by a bit
        high = math.nextafter(high, 0)
    return low, high


def _text(value: str | bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
