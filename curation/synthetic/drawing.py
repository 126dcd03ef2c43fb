"""Draws each kind of object, at `SCALE` times the size of the final image."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import ImageDraw

from curation.synthetic.placement import Placement

__all__ = [
    "LAMP_COLORS",
    "MARGIN",
    "SCALE",
    "Canvas",
    "Color",
    "dimmed",
    "draw_bicycle",
    "draw_car",
    "draw_pedestrian",
    "draw_round_sign",
    "draw_stop_sign",
    "draw_traffic_light",
    "scaled",
]


SCALE, MARGIN = 2, 16
LAMP_COLORS = {"red": (255, 45, 30), "yellow": (255, 205, 30), "green": (40, 245, 130)}
_UNLIT_COLORS = {"red": (62, 22, 20), "yellow": (60, 52, 18), "green": (18, 52, 34)}
Color = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Two layers: `diffuse` reflects light, `emissive` gives light. Coordinates are pixels of the final image."""

    diffuse: ImageDraw.ImageDraw
    emissive: ImageDraw.ImageDraw

    def box(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        self.diffuse.rectangle(scaled(left, top, right, bottom), fill=color)

    def disc(self, x: float, y: float, radius: float, color: Color) -> None:
        self.diffuse.ellipse(scaled(x - radius, y - radius, x + radius, y + radius), fill=color)

    def ring(self, x: float, y: float, radius: float, color: Color, width: int = 2) -> None:
        corners = scaled(x - radius, y - radius, x + radius, y + radius)
        self.diffuse.ellipse(corners, outline=color, width=width)

    def line(self, points: list[tuple[float, float]], color: Color, width: float) -> None:
        flat = [side for point in points for side in point]
        self.diffuse.line(scaled(*flat), fill=color, width=max(1, round(width * SCALE)))

    def shape(self, points: list[tuple[float, float]], color: Color) -> None:
        self.diffuse.polygon(scaled(*[side for point in points for side in point]), fill=color)

    def lamp(self, x: float, y: float, wide: float, high: float, color: Color) -> None:
        """An ellipse that gives light."""
        corners = scaled(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
        self.diffuse.ellipse(corners, fill=(0, 0, 0))
        self.emissive.ellipse(corners, fill=color)


def scaled(*coordinates: float) -> list[float]:
    """Coordinates of the final image as those of a layer."""
    return [SCALE * side for side in coordinates]


def draw_traffic_light(canvas: Canvas, at: Placement, lit: str) -> None:
    """A traffic light with the lamp `lit`."""
    x, y, d = at.x, at.y, at.size
    canvas.box(x - 0.8, y, x + 0.8, 58 + d, (70, 72, 74))
    canvas.box(x - 0.85 * d, y - 2.15 * d, x + 0.85 * d, y + 2.15 * d, (34, 34, 36))
    for k, color in enumerate(LAMP_COLORS):
        middle = y + (k - 1) * 1.3 * d
        canvas.disc(x, middle, d / 2, _UNLIT_COLORS[color])
        if color == lit:
            canvas.lamp(x, middle, d, d, LAMP_COLORS[color])


def draw_stop_sign(canvas: Canvas, at: Placement) -> None:
    """A stop sign on its post."""
    x, y, size = at.x, at.y, at.size
    canvas.box(x - 0.8, y, x + 0.8, 60 + size / 3, (120, 122, 124))
    for share, color in ((1.0, (238, 238, 238)), (0.88, (200, 22, 34))):
        radius = share * size / 2 / math.cos(math.pi / 8)
        turns = [math.pi / 8 + k * math.pi / 4 for k in range(8)]
        canvas.shape([(x + radius * math.cos(t), y + radius * math.sin(t)) for t in turns], color)
    for k in range(4):
        left = x + (k - 2) * size * 0.18 + size * 0.03
        canvas.box(left, y - size * 0.13, left + size * 0.1, y + size * 0.13, (245, 245, 245))


def draw_round_sign(canvas: Canvas, at: Placement, kind: float) -> None:
    """A round red sign, easily taken for a stop sign: a dark bar on white where `kind` < 0.5, else a white bar."""
    x, y, size = at.x, at.y, at.size
    canvas.box(x - 0.7, y, x + 0.7, 60, (120, 122, 124))
    canvas.disc(x, y, size / 2, (205, 30, 40))
    if kind < 0.5:
        canvas.disc(x, y, size * 0.34, (240, 240, 240))
        canvas.box(x - size * 0.12, y - size * 0.15, x + size * 0.12, y + size * 0.15, (40, 40, 40))
    else:
        canvas.box(x - size * 0.36, y - size * 0.09, x + size * 0.36, y + size * 0.09, (240, 240, 240))


def draw_car(canvas: Canvas, at: Placement, u: Iterator[float], *, dark: bool) -> None:
    """A car from behind or from the side."""
    x, y, h = at.x, at.y, at.size
    wide, color = 1.5 * h, _random_paint(u)
    brakes = next(u) < 0.5
    canvas.box(x - wide * 0.42, y - h * 0.25, x - wide * 0.26, y, (18, 18, 18))
    canvas.box(x + wide * 0.26, y - h * 0.25, x + wide * 0.42, y, (18, 18, 18))
    roof = [
        (x - wide * 0.30, y - h),
        (x + wide * 0.30, y - h),
        (x + wide * 0.42, y - h * 0.55),
        (x - wide * 0.42, y - h * 0.55),
    ]
    canvas.shape(roof, color)
    glass = [
        (x - wide * 0.25, y - h * 0.92),
        (x + wide * 0.25, y - h * 0.92),
        (x + wide * 0.33, y - h * 0.6),
        (x - wide * 0.33, y - h * 0.6),
    ]
    canvas.shape(glass, (46, 58, 70))
    canvas.box(x - wide / 2, y - h * 0.58, x + wide / 2, y - h * 0.14, color)
    canvas.box(x - wide * 0.16, y - h * 0.36, x + wide * 0.16, y - h * 0.22, (225, 225, 215))
    for side in (-1, 1):
        lamp = x + side * wide * 0.40
        canvas.box(lamp - h * 0.1, y - h * 0.52, lamp + h * 0.1, y - h * 0.34, (150, 20, 24))
        if dark or brakes:
            glare = dimmed((255, 30, 24), 0.9 if brakes else 0.55)
            canvas.lamp(lamp, y - h * 0.43, h * 0.22, h * 0.2, glare)


def draw_bicycle(canvas: Canvas, at: Placement, u: Iterator[float]) -> None:
    """A bicycle with its rider."""
    x, y, h = at.x, at.y, at.size
    frame, shirt, wheel = _random_paint(u), _random_paint(u), h * 0.23
    facing = 1 if next(u) < 0.5 else -1
    rear, front = x - facing * h * 0.32, x + facing * h * 0.32
    hub = y - wheel
    for middle in (rear, front):
        canvas.ring(middle, hub, wheel, (22, 22, 24))
    saddle, bars, pedals = (
        (x - facing * h * 0.13, y - h * 0.5),
        (x + facing * h * 0.22, y - h * 0.56),
        (x, hub),
    )
    for path in ([(rear, hub), saddle, pedals, (rear, hub)], [pedals, bars, (front, hub)], [saddle, bars]):
        canvas.line(path, frame, 1)
    shoulder = (x + facing * h * 0.04, y - h * 0.80)
    canvas.line([saddle, shoulder], shirt, h * 0.15)
    canvas.line([shoulder, bars], (205, 160, 130), h * 0.05)
    canvas.line([saddle, (x + facing * h * 0.1, y - h * 0.34), pedals], (40, 42, 60), h * 0.07)
    canvas.disc(shoulder[0] + facing * h * 0.05, y - h * 0.91, h * 0.085, (210, 165, 135))


def draw_pedestrian(canvas: Canvas, at: Placement, u: Iterator[float], frame: int) -> None:
    """A pedestrian, whose stride depends on the frame."""
    x, y, h = at.x, at.y, at.size
    coat, trousers, skin = _random_paint(u), dimmed(_random_paint(u), 0.5), (214, 168, 138)
    stride = h * 0.12 * math.sin(6 * next(u) + 0.5 * frame)
    for side in (-1, 1):
        canvas.line([(x, y - h * 0.48), (x + side * (h * 0.05 + stride / 2), y)], trousers, h * 0.09)
        canvas.line(
            [(x + side * h * 0.11, y - h * 0.78), (x + side * (h * 0.14 + stride / 2), y - h * 0.46)],
            coat,
            h * 0.06,
        )
    canvas.box(x - h * 0.11, y - h * 0.82, x + h * 0.11, y - h * 0.44, coat)
    canvas.disc(x, y - h * 0.91, h * 0.085, skin)


_PAINT_COLORS: tuple[Color, ...] = (
    (186, 34, 36), (36, 76, 160), (222, 222, 220), (40, 42, 46),
    (128, 132, 138), (212, 160, 40), (40, 110, 70), (150, 80, 150),
)  # fmt: skip


def _random_paint(u: Iterator[float]) -> Color:
    return _PAINT_COLORS[int(next(u) * len(_PAINT_COLORS))]


def dimmed(color: Color, share: float) -> Color:
    """A colour times `share`."""
    return round(color[0] * share), round(color[1] * share), round(color[2] * share)
