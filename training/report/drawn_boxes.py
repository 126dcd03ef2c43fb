"""Thumbnails with boxes: known ones with a whole outline, predicted ones with a dashed one, a colour for each class."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from PIL import Image, ImageDraw

from curation.catalog.tasks import Task
from curation.images.decoding import load_rgb
from curation.images.thumbnails import data_uri, shrunk

__all__ = ["box_colors", "thumbnail_with"]

Row = Mapping[str, Any]

BOX_COLORS: Final = ("#f0e442", "#56b4e9", "#cc79a7", "#e69f00", "#ffffff", "#d55e00")
DASH: Final = 4
"""Pixels of a dash, and of the gap after it."""


def box_colors(tasks: Iterable[Task]) -> dict[str, str]:
    """A colour for each class of the tasks of boxes."""
    names = dict.fromkeys(name for task in tasks if task.kind == "detection" for name in task.classes)
    return {name: BOX_COLORS[code % len(BOX_COLORS)] for code, name in enumerate(names)}


def thumbnail_with(
    picture: bytes | None, boxes: Sequence[tuple[str, Row]], colors: Mapping[str, str],
    predicted: Sequence[tuple[str, Row]] = (),
) -> str:  # fmt: skip
    """An image with its boxes, as a data: URI of a JPEG, at most 160 pixels wide and high; empty without the image.

    A box is the name of its class, and x, y, w, h in pixels of the image.
    """
    if picture is None:
        return ""
    pixels = load_rgb(picture)
    image = shrunk(Image.fromarray(pixels))
    scale = image.width / pixels.shape[1]
    draw = ImageDraw.Draw(image)
    for name, box in boxes:
        left, top, right, bottom = _edges(box, scale)
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="#000000")
        draw.rectangle((left, top, right, bottom), outline=colors[name])
    for name, box in predicted:
        _dashed(draw, _edges(box, scale), colors[name])
    return data_uri(image)


def _edges(box: Row, scale: float) -> tuple[float, float, float, float]:
    left, top = box["x"] * scale, box["y"] * scale
    return left, top, left + max(1.0, box["w"] * scale), top + max(1.0, box["h"] * scale)


def _dashed(draw: ImageDraw.ImageDraw, edges: tuple[float, float, float, float], color: str) -> None:
    """A dashed rectangle, black between the dashes."""
    left, top, right, bottom = edges
    draw.rectangle(edges, outline="#000000")
    for first, last, along in ((left, right, True), (top, bottom, False)):
        at = first
        while at < last:
            end = min(at + DASH, last)
            for fixed in (top, bottom) if along else (left, right):
                draw.line((at, fixed, end, fixed) if along else (fixed, at, fixed, end), fill=color)
            at += 2 * DASH
