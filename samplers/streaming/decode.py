"""Decode image files to pixels of a given size, in memory of the caller.

An image of another size is stretched. JPEG is first decoded at the smallest multiple of 1/8 that is not below the
requested size, which makes far fewer pixels; Pillow's antialiased bilinear filter does the rest.
"""

import re

import numpy as np
import simplejpeg
from PIL import Image

from curation.arrays import Pixels
from curation.images.decoding import load_rgb

__all__ = ["decode_into", "stretch_into"]

_START_OF_SCAN, _APP1 = 0xDA, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # these three markers are not frames
_TURNED = re.compile(
    rb"\x12\x01[\x00-\x0f]\x00\x01\x00\x00\x00(?!\x01)|\x01\x12\x00[\x00-\x0f]\x00\x00\x00\x01(?!\x00\x01)|tiff:Orientation",
    re.DOTALL,
)


def decode_into(data: memoryview, out: Pixels) -> None:
    """Decode `data` upright into `out` [H, W, 3] RGB; `BadImage` if it is not an image."""
    if not _decode_jpeg(data, out):
        stretch_into(load_rgb(bytes(data)), out)


def stretch_into(pixels: Pixels, out: Pixels) -> None:
    """Stretch pixels [h, w, 3] into `out` [H, W, 3], by an antialiased bilinear filter."""
    if pixels.shape != out.shape:
        size = out.shape[1], out.shape[0]
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    out[...] = pixels


def _decode_jpeg(data: memoryview, out: Pixels) -> bool:
    """The fast path, which releases the interpreter lock; False if `load_rgb` must rotate, convert or refuse."""
    try:
        shape = _upright_jpeg(data)
        if shape is None:
            return False
        if shape == out.shape[:2]:
            simplejpeg.decode_jpeg(data, "RGB", buffer=out)
        else:
            stretch_into(simplejpeg.decode_jpeg(data, "RGB", min_height=out.shape[0], min_width=out.shape[1]), out)
        return True
    except (ValueError, IndexError):
        return False


def _upright_jpeg(data: memoryview) -> tuple[int, int] | None:
    """Height and width of a grey or RGB JPEG, from its segments up to the scan; None if the image may be rotated, has
    CMYK colours, or its segments cannot be parsed."""
    if bytes(data[:2]) != b"\xff\xd8":
        return None
    at, shape = 2, None
    while (kind := data[at + 1]) != _START_OF_SCAN:
        length = data[at + 2] << 8 | data[at + 3]
        if data[at] != 0xFF or (kind == _APP1 and _TURNED.search(data[at : at + 2 + length])):
            return None
        if kind in _FRAMES and data[at + 9] in (1, 3):  # channels
            shape = data[at + 5] << 8 | data[at + 6], data[at + 7] << 8 | data[at + 8]
        at += 2 + length
    return shape
