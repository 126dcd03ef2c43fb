"""Parts of images: boxes, cut out of the pixels that they lie on.

Corners are x, y, w, h in pixels of the upright image, as in labels. What lies outside of the image is cut off.
"""

import re
from typing import Final

import numpy as np

from curation.arrays import Bools, Floats, Ints, Pixels
from curation.errors import BadInput

__all__ = ["FEWEST", "Corners", "clipped", "crop_id", "crop_of", "parsed_corners", "usable"]

Corners = tuple[float, float, float, float]
"""x, y, w, h in pixels of the upright image."""

FEWEST: Final = 2
"""A crop has at least so many pixels in height and in width."""

_NUMBERS: Final = re.compile(r"\s*,\s*".join([r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"] * 4))


def parsed_corners(text: str) -> Corners | None:
    """The corners in a text "X,Y,W,H"; None where it is no such text.

    >>> parsed_corners("4,8,15.5,16")
    (4.0, 8.0, 15.5, 16.0)
    >>> parsed_corners("4,8,15")
    """
    found = _NUMBERS.fullmatch(text)
    return (float(found[1]), float(found[2]), float(found[3]), float(found[4])) if found else None


def crop_id(key: str, corners: Corners) -> str:
    """The name of a part of an image: equal where the key and the corners are.

    >>> crop_id("drive/1.jpg", (4.0, 8.0, 15.5, 16.0))
    'drive/1.jpg#4.0,8.0,15.5,16.0'
    """
    return f"{key}#{','.join(repr(float(side)) for side in corners)}"


def clipped(corners: Floats, sizes: Ints) -> Floats:
    """Left, top, right and bottom [n, 4] of corners [n, 4] inside images of these widths and heights [n, 2]."""
    first, last = corners[:, :2], corners[:, :2] + corners[:, 2:]
    return np.concatenate([np.maximum(first, 0.0), np.minimum(last, sizes)], axis=1)


def usable(corners: Floats, sizes: Ints) -> Bools:
    """Which of the corners [n, 4] have an area, and at least 2 pixels a side inside images of these sizes [n, 2]."""
    sides = clipped(corners, sizes)
    inside = (sides[:, 2:] - sides[:, :2] >= FEWEST).all(axis=1)
    return np.asarray(inside & (corners[:, 2:] > 0).all(axis=1), np.bool_)


def crop_of(pixels: Pixels, corners: Corners) -> Pixels:
    """The pixels [h, w, 3] that a part of an image [H, W, 3] touches; BadInput for a part that is too small."""
    height, width = pixels.shape[:2]
    box, size = np.array([corners], np.float64), np.array([[width, height]], np.int64)
    if not (box[0, 2:] > 0).all():
        raise BadInput(f"box {_text(corners)}: has no area; give it a width and a height above 0")
    if not usable(box, size)[0]:
        raise BadInput(
            f"box {_text(corners)}: less than {FEWEST} pixels a side lie in the image of {width} x {height}; "
            "name a larger one"
        )
    left, top, right, bottom = clipped(box, size)[0].tolist()
    return pixels[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]


def _text(corners: Corners) -> str:
    return ",".join(f"{side:g}" for side in corners)
