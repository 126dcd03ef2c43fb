"""Things, painted twice as large as they will be."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import ImageDraw

from curation.synthetic.positions import Position

__all__ = [
    "LIT",
    "MARGIN",
    "SCALE",
    "Color",
    "Easel",
    "dimmed",
    "paint_bicycle",
    "paint_car",
    "paint_light",
    "paint_pedestrian",
    "paint_round_sign",
    "paint_stop_sign",
    "scaled",
]


SCALE, MARGIN = 2, 16
LIT = {"red": (255, 45, 30), "yellow": (255, 205, 30), "green": (40, 245, 130)}
_UNLIT = {"red": (62, 22, 20), "yellow": (60, 52, 18), "green": (18, 52, 34)}
Color = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Easel:
    """Two sheets: what reflects light, and what gives it. All coordinates are pixels of the final image."""

    sheet: ImageDraw.ImageDraw
    shine: ImageDraw.ImageDraw

    def box(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        self.sheet.rectangle(scaled(left, top, right, bottom), fill=color)

    def disc(self, x: float, y: float, radius: float, color: Color) -> None:
        self.sheet.ellipse(scaled(x - radius, y - radius, x + radius, y + radius), fill=color)

    def ring(self, x: float, y: float, radius: float, color: Color, width: int = 2) -> None:
        corners = scaled(x - radius, y - radius, x + radius, y + radius)
        self.sheet.ellipse(corners, outline=color, width=width)

    def line(self, points: list[tuple[float, float]], color: Color, width: float) -> None:
        flat = [side for point in points for side in point]
        self.sheet.line(scaled(*flat), fill=color, width=max(1, round(width * SCALE)))

    def shape(self, points: list[tuple[float, float]], color: Color) -> None:
        self.sheet.polygon(scaled(*[side for point in points for side in point]), fill=color)

    def lamp(self, x: float, y: float, wide: float, high: float, color: Color) -> None:
        """An ellipse that shines."""
        corners = scaled(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
        self.sheet.ellipse(corners, fill=(0, 0, 0))
        self.shine.ellipse(corners, fill=color)


def scaled(*coordinates: float) -> list[float]:
    """Coordinates of the image as those of the sheet."""
    return [SCALE * side for side in coordinates]


def paint_light(easel: Easel, place: Position, lit: str) -> None:
    """A head of a traffic light with one lamp lit."""
    x, y, d = place.x, place.y, place.size
    easel.box(x - 0.8, y, x + 0.8, 58 + d, (70, 72, 74))
    easel.box(x - 0.85 * d, y - 2.15 * d, x + 0.85 * d, y + 2.15 * d, (34, 34, 36))
    for k, color in enumerate(LIT):
        middle = y + (k - 1) * 1.3 * d
        easel.disc(x, middle, d / 2, _UNLIT[color])
        if color == lit:
            easel.lamp(x, middle, d, d, LIT[color])


def paint_stop_sign(easel: Easel, place: Position) -> None:
    """A stop sign on its post."""
    x, y, size = place.x, place.y, place.size
    easel.box(x - 0.8, y, x + 0.8, 60 + size / 3, (120, 122, 124))
    for share, color in ((1.0, (238, 238, 238)), (0.88, (200, 22, 34))):
        radius = share * size / 2 / math.cos(math.pi / 8)
        turns = [math.pi / 8 + k * math.pi / 4 for k in range(8)]
        easel.shape([(x + radius * math.cos(t), y + radius * math.sin(t)) for t in turns], color)
    for k in range(4):
        left = x + (k - 2) * size * 0.18 + size * 0.03
        easel.box(left, y - size * 0.13, left + size * 0.1, y + size * 0.13, (245, 245, 245))


def paint_round_sign(easel: Easel, place: Position, kind: float) -> None:
    """A round red sign, with a bar where `kind` is small: what a stop sign is mistaken for."""
    x, y, size = place.x, place.y, place.size
    easel.box(x - 0.7, y, x + 0.7, 60, (120, 122, 124))
    easel.disc(x, y, size / 2, (205, 30, 40))
    if kind < 0.5:
        easel.disc(x, y, size * 0.34, (240, 240, 240))
        easel.box(x - size * 0.12, y - size * 0.15, x + size * 0.12, y + size * 0.15, (40, 40, 40))
    else:
        easel.box(x - size * 0.36, y - size * 0.09, x + size * 0.36, y + size * 0.09, (240, 240, 240))


def paint_car(easel: Easel, place: Position, u: Iterator[float], *, dark: bool) -> None:
    """A car from behind or from the side."""
    x, y, h = place.x, place.y, place.size
    wide, color = 1.5 * h, _paint_color(u)
    brakes = next(u) < 0.5
    easel.box(x - wide * 0.42, y - h * 0.25, x - wide * 0.26, y, (18, 18, 18))
    easel.box(x + wide * 0.26, y - h * 0.25, x + wide * 0.42, y, (18, 18, 18))
    roof = [
        (x - wide * 0.30, y - h),
        (x + wide * 0.30, y - h),
        (x + wide * 0.42, y - h * 0.55),
        (x - wide * 0.42, y - h * 0.55),
    ]
    easel.shape(roof, color)
    glass = [
        (x - wide * 0.25, y - h * 0.92),
        (x + wide * 0.25, y - h * 0.92),
        (x + wide * 0.33, y - h * 0.6),
        (x - wide * 0.33, y - h * 0.6),
    ]
    easel.shape(glass, (46, 58, 70))
    easel.box(x - wide / 2, y - h * 0.58, x + wide / 2, y - h * 0.14, color)
    easel.box(x - wide * 0.16, y - h * 0.36, x + wide * 0.16, y - h * 0.22, (225, 225, 215))
    for side in (-1, 1):
        lamp = x + side * wide * 0.40
        easel.box(lamp - h * 0.1, y - h * 0.52, lamp + h * 0.1, y - h * 0.34, (150, 20, 24))
        if dark or brakes:
            glare = dimmed((255, 30, 24), 0.9 if brakes else 0.55)
            easel.lamp(lamp, y - h * 0.43, h * 0.22, h * 0.2, glare)


def paint_bicycle(easel: Easel, place: Position, u: Iterator[float]) -> None:
    """A bicycle with its rider."""
    x, y, h = place.x, place.y, place.size
    frame, shirt, wheel = _paint_color(u), _paint_color(u), h * 0.23
    facing = 1 if next(u) < 0.5 else -1
    rear, front = x - facing * h * 0.32, x + facing * h * 0.32
    hub = y - wheel
    for middle in (rear, front):
        easel.ring(middle, hub, wheel, (22, 22, 24))
    saddle, bars, pedals = (
        (x - facing * h * 0.13, y - h * 0.5),
        (x + facing * h * 0.22, y - h * 0.56),
        (x, hub),
    )
    for path in ([(rear, hub), saddle, pedals, (rear, hub)], [pedals, bars, (front, hub)], [saddle, bars]):
        easel.line(path, frame, 1)
    shoulder = (x + facing * h * 0.04, y - h * 0.80)
    easel.line([saddle, shoulder], shirt, h * 0.15)
    easel.line([shoulder, bars], (205, 160, 130), h * 0.05)
    easel.line([saddle, (x + facing * h * 0.1, y - h * 0.34), pedals], (40, 42, 60), h * 0.07)
    easel.disc(shoulder[0] + facing * h * 0.05, y - h * 0.91, h * 0.085, (210, 165, 135))


def paint_pedestrian(easel: Easel, place: Position, u: Iterator[float], frame: int) -> None:
    """Somebody on foot; the step goes with the frame."""
    x, y, h = place.x, place.y, place.size
    coat, trousers, skin = _paint_color(u), dimmed(_paint_color(u), 0.5), (214, 168, 138)
    stride = h * 0.12 * math.sin(6 * next(u) + 0.5 * frame)
    for side in (-1, 1):
        easel.line([(x, y - h * 0.48), (x + side * (h * 0.05 + stride / 2), y)], trousers, h * 0.09)
        easel.line(
            [(x + side * h * 0.11, y - h * 0.78), (x + side * (h * 0.14 + stride / 2), y - h * 0.46)],
            coat,
            h * 0.06,
        )
    easel.box(x - h * 0.11, y - h * 0.82, x + h * 0.11, y - h * 0.44, coat)
    easel.disc(x, y - h * 0.91, h * 0.085, skin)


_PAINTS: tuple[Color, ...] = (
    (186, 34, 36), (36, 76, 160), (222, 222, 220), (40, 42, 46),
    (128, 132, 138), (212, 160, 40), (40, 110, 70), (150, 80, 150),
)  # fmt: skip


def _paint_color(u: Iterator[float]) -> Color:
    return _PAINTS[int(next(u) * len(_PAINTS))]


def dimmed(color: Color, share: float) -> Color:
    """A colour times `share`."""
    return round(color[0] * share), round(color[1] * share), round(color[2] * share)
