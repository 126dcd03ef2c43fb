"""Regions of a Label Studio export: their class, their box in pixels, and their attributes."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from pydantic.dataclasses import dataclass

from curation.catalog.tasks import Task
from curation.ingestion.readers.box_forms import scaled, turned
from curation.ingestion.readers.findings import BadEntry

__all__ = ["Fields", "Result", "attributes_of", "class_of", "pixels_of", "rotation_of"]

Fields = dict[str, Any]
Corner = tuple[float, float, float, float]

_SHAPES = ("rectangle", "ellipse", "polygon")


@dataclass(frozen=True, slots=True)
class Result:
    """One result of an annotation: a region, or a choice, number or text about the image or a region."""

    type: str = ""
    from_name: str = ""
    id: str | None = None
    value: Fields = field(default_factory=dict)
    original_width: int | None = None
    original_height: int | None = None
    image_rotation: float | None = None


def class_of(region: Result, results: Sequence[Result], origin: str) -> str | None:
    """The class of a region, its own or from a Labels tag; None without one, BadEntry for several."""
    shape = region.type.removesuffix("labels")
    names = region.value.get(region.type) if region.type.endswith("labels") else None
    if not names and region.id is not None:
        others = [other.value.get("labels") for other in results if other.id == region.id and other.type == "labels"]
        names = next((found for found in others if found), None)
    if (shape and shape not in _SHAPES) or _corner(region) is None or (names and len(names) != 1):
        rule = "not a rectangle, ellipse or polygon of one label"
        raise BadEntry(origin, f"a {region.type} of {names!r},", rule, "correct it")
    return str(names[0]) if names else None


def pixels_of(region: Result, origin: str) -> Corner:
    """The box around a region in pixels of the upright image."""
    if region.image_rotation:
        value = f"image_rotation = {region.image_rotation:g}:"
        raise BadEntry(origin, value, "the image was rotated", "rotate it back in Label Studio")
    corner, width, height = _corner(region), region.original_width or 0, region.original_height or 0
    if corner is None or not all(isinstance(side, int | float) for side in corner) or width < 1 or height < 1:
        raise BadEntry(origin, "", "lacks its coordinates or original_width and height", "export it again")
    x, y, w, h = (side / 100 for side in corner)
    turn = rotation_of(region).get("rotation", 0.0)
    if turn:
        return turned(x * width, y * height, w * width, h * height, turn)
    return scaled((width, height), x, y, w, h)


def rotation_of(region: Result) -> dict[str, float]:
    """The rotation of a rectangle in degrees, clockwise; empty without one."""
    turn = region.value.get("rotation")
    return {"rotation": float(turn)} if isinstance(turn, int | float) and turn % 360 else {}


def attributes_of(region: Result, results: Sequence[Result], by_tag: Mapping[str, Task]) -> Fields:
    """Further results about a region: results of the same id, by their tag."""
    found: Fields = {}
    for other in results:
        same = other.id == region.id and region.id is not None and other.from_name != region.from_name
        if same and other.from_name not in by_tag and other.type in other.value and other.type != "labels":
            value = other.value[other.type]
            found[other.from_name] = "; ".join(map(str, value)) if isinstance(value, list) else value
    return found


def _corner(region: Result) -> tuple[Any, Any, Any, Any] | None:
    """Left, top, width and height in percent of the image; None for a region of another shape."""
    value = region.value
    if "width" in value or "height" in value:
        return value.get("x"), value.get("y"), value.get("width"), value.get("height")
    if "radiusX" in value and "radiusY" in value:
        x, y, across, down = (value.get(name, "") for name in ("x", "y", "radiusX", "radiusY"))
        if not all(isinstance(side, int | float) for side in (x, y, across, down)):
            return None, None, None, None
        return x - across, y - down, 2 * across, 2 * down
    points = value.get("points")
    if not isinstance(points, list) or len(points) < 3:
        return None
    try:
        xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
    except (TypeError, ValueError):
        return None
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
