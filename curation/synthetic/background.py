"""What stands still behind the objects of a drive: sky, buildings, road, trees and lamp posts."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from curation.arrays import Float32s
from curation.synthetic.drawing import LAMP_COLORS, MARGIN, SCALE, Canvas, Color, dimmed, scaled
from curation.synthetic.lighting import OPAQUE, Conditions, road_light, with_fog, with_halo
from curation.synthetic.placement import HEIGHT, WIDTH

__all__ = ["draw_background"]

_HORIZON = {"front": 42, "left": 39, "right": 45}


def draw_background(conditions: Conditions, u: Iterator[float]) -> Float32s:
    """Sky, buildings, road, trees and lamp posts, lit: [80, 160, 3] in 0 to 255."""
    size = ((WIDTH + 2 * MARGIN) * SCALE, HEIGHT * SCALE)
    diffuse, emissive = Image.new("RGB", size), Image.new("RGB", size)
    canvas = Canvas(diffuse=ImageDraw.Draw(diffuse), emissive=ImageDraw.Draw(emissive))
    horizon, dark = _HORIZON[conditions.camera], conditions.time != "day"
    _draw_sky(canvas, horizon, conditions)
    _draw_buildings(canvas, u, horizon, dark=dark)
    _draw_road(canvas, u, horizon)
    _draw_trees(canvas, u, horizon)
    _draw_lamp_posts(canvas, u, horizon, dark=dark)
    wet = 0.8 if conditions.weather == "rain" else 1.0
    lit = np.asarray(diffuse.reduce(SCALE), np.float32) * road_light(conditions.time, horizon) * np.float32(wet)
    return with_fog(lit, OPAQUE, conditions, depth=0.62) + with_halo(emissive.reduce(SCALE), conditions)


def _draw_sky(canvas: Canvas, horizon: int, conditions: Conditions) -> None:
    top: Color = (105, 165, 235) if conditions.weather == "clear" else (165, 175, 185)
    low: Color = (255, 190, 130) if conditions.time == "dusk" else (205, 220, 235)
    right = WIDTH + 2 * MARGIN
    for y in range(0, horizon, 3):
        part = y / horizon
        color = tuple(round(a + (b - a) * part) for a, b in zip(top, low, strict=True))
        canvas.box(0, y, right, y + 3, (color[0], color[1], color[2]))


def _draw_buildings(canvas: Canvas, u: Iterator[float], horizon: int, *, dark: bool) -> None:
    x = -4.0
    while x < WIDTH + 2 * MARGIN:
        wide, high = 12 + 16 * next(u), 10 + 22 * next(u)
        shade, warm = 70 + 100 * next(u), next(u)
        wall = (round(shade + 25 * warm), round(shade), round(shade - 20 * warm))
        canvas.box(x, horizon - high, x + wide - 1, horizon + 2, wall)
        _draw_windows(canvas, u, x, horizon - high, wide, high, dark=dark)
        if next(u) < 0.22:  # a shop's sign, in the colours of a traffic light
            color = list(LAMP_COLORS.values())[int(3 * next(u))]
            left, top = x + 2 + next(u) * 4, horizon - 6
            canvas.box(left, top, left + 6, top + 2.5, color)
            if dark:
                canvas.emissive.rectangle(scaled(left, top, left + 6, top + 2.5), fill=dimmed(color, 0.55))
        x += wide


def _draw_windows(
    canvas: Canvas, u: Iterator[float], x: float, top: float, wide: float, high: float, *, dark: bool
) -> None:
    lit = int(next(u) * 2**20)
    for row in range(int(high // 6)):
        for column in range(int(wide // 5)):
            left, upper = x + 1.5 + 5 * column, top + 2 + 6 * row
            canvas.box(left, upper, left + 2.2, upper + 3, (45, 52, 64))
            if dark and lit >> (4 * row + column) & 1:
                canvas.emissive.rectangle(scaled(left, upper, left + 2.2, upper + 3), fill=(120, 95, 48))


def _draw_road(canvas: Canvas, u: Iterator[float], horizon: int) -> None:
    right = WIDTH + 2 * MARGIN
    shade = round(82 + 30 * next(u))
    canvas.box(0, horizon, right, horizon + 7, (150, 146, 138))
    canvas.box(0, horizon + 7, right, HEIGHT, (shade, shade, shade + 3))
    stripe, paint = 4 + 2 * next(u), round(190 + 50 * next(u))
    for k in range(int(right / stripe / 2) + 1):  # kerb stones: they show motion blur in every image
        canvas.box(2 * k * stripe, horizon + 6, (2 * k + 1) * stripe, horizon + 9, (paint, paint, paint))
        canvas.box((2 * k + 1) * stripe, horizon + 6, (2 * k + 2) * stripe, horizon + 9, (60, 58, 60))
    start = 20 * next(u)
    for k in range(9):
        left = start + 20 * k
        canvas.shape(
            [(left, 66), (left + 9, 66), (left + 8, 69), (left - 2, 69)],
            (220, 218, 205),
        )
    for _ in range(12):
        x, y = right * next(u), horizon + 11 + 26 * next(u)
        canvas.box(x, y, x + 2 + 3 * next(u), y + 1.5, (shade - 28, shade - 28, shade - 26))


def _draw_trees(canvas: Canvas, u: Iterator[float], horizon: int) -> None:
    for _ in range(int(5 * next(u))):
        x, size, tone = (WIDTH + 2 * MARGIN) * next(u), 5 + 6 * next(u), next(u)
        green = (round(30 + 40 * tone), round(85 + 60 * tone), round(35 + 25 * tone))
        canvas.box(x - 1, horizon - 6, x + 1, horizon + 6, (74, 56, 40))
        canvas.disc(x, horizon - 6 - size, size, green)
        canvas.disc(x - size / 2, horizon - 4 - size / 2, size * 0.7, green)


def _draw_lamp_posts(canvas: Canvas, u: Iterator[float], horizon: int, *, dark: bool) -> None:
    for _ in range(int(4 * next(u))):
        x, high, arm = (WIDTH + 2 * MARGIN) * next(u), 22 + 12 * next(u), 5 - 10 * next(u)
        canvas.line([(x, horizon + 7), (x, horizon - high), (x + arm, horizon - high)], (80, 84, 88), 1)
        canvas.box(x + arm - 2, horizon - high - 1, x + arm + 2, horizon - high + 1, (226, 200, 110))
        if dark:
            canvas.lamp(x + arm, horizon - high + 0.5, 4.5, 2.5, (255, 190, 80))
