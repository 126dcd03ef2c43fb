"""Small pictures inside HTML pages."""

import base64
import io

from PIL import Image

__all__ = ["THUMBNAIL", "data_uri", "shrunk"]

THUMBNAIL = 160
"""The longer side of a small picture, in pixels."""


def shrunk(image: Image.Image, side: int = THUMBNAIL) -> Image.Image:
    """A copy of `image` that is at most `side` pixels wide and high."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def data_uri(image: Image.Image) -> str:
    """An RGB image as a data: URI of a JPEG, without subsampling of its colours."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85, optimize=True, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
