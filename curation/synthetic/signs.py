"""The 32 traffic signs of scenes with signs: four plates, each with eight symbols."""

import math
from collections.abc import Callable
from typing import Final

from curation.synthetic.drawing import Canvas, Color
from curation.synthetic.placement import Placement

__all__ = ["SIGNS", "draw_sign"]

_WHITE: Final[Color] = (240, 240, 240)
_BLACK: Final[Color] = (28, 28, 30)
_RED: Final[Color] = (205, 30, 40)
_BLUE: Final[Color] = (30, 84, 190)
_YELLOW: Final[Color] = (244, 190, 40)


def draw_sign(canvas: Canvas, at: Placement, sign: str) -> None:
    """The sign called `sign`, one of `SIGNS`, on its post: (x, y) is its centre, `size` its width and height."""
    plate, _, symbol = sign.partition("_")
    canvas.box(at.x - 0.7, at.y, at.x + 0.7, 58 + at.size / 4, (120, 122, 124))
    ink = _PLATES[plate](canvas, at)
    _SYMBOLS[symbol](canvas, at, ink)


def _forbidden(canvas: Canvas, at: Placement) -> Color:
    canvas.disc(at.x, at.y, at.size / 2, _RED)
    canvas.disc(at.x, at.y, at.size * 0.38, _WHITE)
    return _BLACK


def _required(canvas: Canvas, at: Placement) -> Color:
    canvas.disc(at.x, at.y, at.size / 2, _BLUE)
    return _WHITE


def _warning(canvas: Canvas, at: Placement) -> Color:
    for share, color in ((0.5, _BLACK), (0.43, _YELLOW)):
        side = share * at.size
        canvas.shape([(at.x, at.y - side), (at.x + side, at.y), (at.x, at.y + side), (at.x - side, at.y)], color)
    return _BLACK


def _information(canvas: Canvas, at: Placement) -> Color:
    half = at.size / 2
    canvas.box(at.x - half, at.y - half, at.x + half, at.y + half, _BLUE)
    inner = half * 0.8
    canvas.box(at.x - inner, at.y - inner, at.x + inner, at.y + inner, _WHITE)
    return _BLACK


def _arrow(turn: float) -> Callable[[Canvas, Placement, Color], None]:
    """An arrow that points right, turned by `turn` quarters of a circle against the clock."""

    def draw(canvas: Canvas, at: Placement, ink: Color) -> None:
        cos, sin = math.cos(turn * math.pi / 2), math.sin(turn * math.pi / 2)
        outline = [(-0.3, -0.07), (0.02, -0.07), (0.02, -0.22), (0.3, 0), (0.02, 0.22), (0.02, 0.07), (-0.3, 0.07)]
        points = [(at.x + at.size * (x * cos + y * sin), at.y + at.size * (y * cos - x * sin)) for x, y in outline]
        canvas.shape(points, ink)

    return draw


def _bar(canvas: Canvas, at: Placement, ink: Color) -> None:
    canvas.box(at.x - at.size * 0.28, at.y - at.size * 0.09, at.x + at.size * 0.28, at.y + at.size * 0.09, ink)


def _dot(canvas: Canvas, at: Placement, ink: Color) -> None:
    canvas.disc(at.x, at.y, at.size * 0.17, ink)


def _pair(canvas: Canvas, at: Placement, ink: Color) -> None:
    for side in (-1, 1):
        canvas.disc(at.x + side * at.size * 0.16, at.y, at.size * 0.1, ink)


def _cross(canvas: Canvas, at: Placement, ink: Color) -> None:
    reach = at.size * 0.2
    for rise in (-1, 1):
        line = [(at.x - reach, at.y - rise * reach), (at.x + reach, at.y + rise * reach)]
        canvas.line(line, ink, at.size * 0.12)


_PLATES: Final = {"forbidden": _forbidden, "required": _required, "warning": _warning, "information": _information}
_SYMBOLS: Final = {
    "right": _arrow(0), "ahead": _arrow(1), "left": _arrow(2), "back": _arrow(3),
    "bar": _bar, "dot": _dot, "pair": _pair, "cross": _cross,
}  # fmt: skip

SIGNS: Final = tuple(f"{plate}_{symbol}" for plate in _PLATES for symbol in _SYMBOLS)
"""Names of all signs, such as "warning_left"."""
