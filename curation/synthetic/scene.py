"""How a scene is painted: background once a drive, things once a frame."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from curation.synthetic.drives import PAINT_STREAM, Drives, generator, speed_at
from curation.synthetic.painting import (
    LIT,
    MARGIN,
    SCALE,
    Color,
    Easel,
    dimmed,
    paint_bicycle,
    paint_car,
    paint_light,
    paint_pedestrian,
    paint_round_sign,
    paint_stop_sign,
    scaled,
)
from curation.synthetic.positions import HEIGHT, WIDTH, Position, lights_of, slot, stop_signs_of, sway_of
from curation.synthetic.weather import OPAQUE, Air, fogged, lens, rained, shining, street_light, thing_light

__all__ = ["render"]

Pixels = npt.NDArray[np.float32]


def render(drives: Drives, seed: int) -> Iterator[tuple[int, int, Image.Image]]:
    """Draw each frame of `drives`: (position of the drive, frame, RGB image of 128 x 80)."""
    for position in range(len(drives)):
        scene = _scene(drives, position, seed)
        for frame in range(int(drives.frames[position])):
            yield position, frame, _picture(scene, frame)


_HORIZON = {"front": 42, "left": 39, "right": 45}


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """Drive `position` of `drives`, ready to be photographed.

    `sums` are running sums of its background along x, float32 [80, 161, 3]; `numbers` decide its looks,
    `grain` makes what differs from frame to frame.
    """

    drives: Drives
    position: int
    air: Air
    sums: Pixels
    numbers: list[float]
    grain: np.random.Generator


def _scene(drives: Drives, position: int, seed: int) -> _Scene:
    grain = generator(seed, PAINT_STREAM, int(drives.number[position]) << 20)
    numbers = grain.random(512).tolist()
    time, weather, camera = (str(values[position]) for values in (drives.time_of_day, drives.weather, drives.camera))
    air = Air(time=time, weather=weather, camera=camera)
    sums = _running_sums(_background(air, iter(numbers[16:])))
    return _Scene(drives=drives, position=position, air=air, sums=sums, numbers=numbers, grain=grain)


def _picture(scene: _Scene, frame: int) -> Image.Image:
    drives, position, air = scene.drives, scene.position, scene.air
    speed = float(speed_at(drives.speed[position], drives.gain[position], np.array(frame)))
    smear = 1 + speed / 120 * 17
    street = _window(scene.sums, MARGIN + 4 * math.sin(frame + scene.numbers[0] * 6), smear)
    things, shine = _foreground(scene, frame, 1 + 0.22 * (smear - 1))
    opaque = things[..., 3:] / np.float32(255)
    lit = fogged(things[..., :3] * thing_light(air.time), opaque, air, depth=0.42)
    canvas = rained(street * (1 - opaque) + lit + shine, air, scene.grain) * lens(air.camera)
    noise = np.float32(5 if air.time == "day" else 9)
    canvas += noise * (scene.grain.random(canvas.shape, dtype=np.float32) - np.float32(0.5))
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))


def _running_sums(sheet: Pixels) -> Pixels:
    sums = np.zeros((sheet.shape[0], sheet.shape[1] + 1, sheet.shape[2]), np.float32)
    np.cumsum(sheet, axis=1, out=sums[:, 1:])
    return sums


def _window(sums: Pixels, left: float, smear: float, width: int = WIDTH) -> Pixels:
    """Columns `left` to `left + width`, each the mean of `smear` columns around it, from running sums."""
    middle = left + 0.5
    return (_sums_at(sums, middle + smear / 2, width) - _sums_at(sums, middle - smear / 2, width)) / np.float32(smear)


def _sums_at(sums: Pixels, start: float, width: int) -> Pixels:
    whole = math.floor(start)
    part = np.float32(start - whole)
    return sums[:, whole : whole + width] * (1 - part) + sums[:, whole + 1 : whole + 1 + width] * part


def _background(air: Air, u: Iterator[float]) -> Pixels:
    """Sky, buildings, trees, road and lamp posts in the light of the hour, [80, 160, 3] in 0 to 255."""
    size = ((WIDTH + 2 * MARGIN) * SCALE, HEIGHT * SCALE)
    sheet, shine = Image.new("RGB", size), Image.new("RGB", size)
    easel = Easel(sheet=ImageDraw.Draw(sheet), shine=ImageDraw.Draw(shine))
    horizon, dark = _HORIZON[air.camera], air.time != "day"
    _paint_sky(easel, horizon, air)
    _paint_buildings(easel, u, horizon, dark=dark)
    _paint_road(easel, u, horizon)
    _paint_trees(easel, u, horizon)
    _paint_posts(easel, u, horizon, dark=dark)
    wet = 0.8 if air.weather == "rain" else 1.0
    lit = np.asarray(sheet.reduce(SCALE), np.float32) * street_light(air.time, horizon) * np.float32(wet)
    return fogged(lit, OPAQUE, air, depth=0.62) + shining(shine.reduce(SCALE), air)


def _paint_sky(easel: Easel, horizon: int, air: Air) -> None:
    top: Color = (105, 165, 235) if air.weather == "clear" else (165, 175, 185)
    low: Color = (255, 190, 130) if air.time == "dusk" else (205, 220, 235)
    right = WIDTH + 2 * MARGIN
    for y in range(0, horizon, 3):
        part = y / horizon
        color = tuple(round(a + (b - a) * part) for a, b in zip(top, low, strict=True))
        easel.box(0, y, right, y + 3, (color[0], color[1], color[2]))


def _paint_buildings(easel: Easel, u: Iterator[float], horizon: int, *, dark: bool) -> None:
    x = -4.0
    while x < WIDTH + 2 * MARGIN:
        wide, high = 12 + 16 * next(u), 10 + 22 * next(u)
        shade, warm = 70 + 100 * next(u), next(u)
        wall = (round(shade + 25 * warm), round(shade), round(shade - 20 * warm))
        easel.box(x, horizon - high, x + wide - 1, horizon + 2, wall)
        _paint_windows(easel, u, x, horizon - high, wide, high, dark=dark)
        if next(u) < 0.22:  # a shop's sign, in the colours of a traffic light
            color = list(LIT.values())[int(3 * next(u))]
            left, top = x + 2 + next(u) * 4, horizon - 6
            easel.box(left, top, left + 6, top + 2.5, color)
            if dark:
                easel.shine.rectangle(scaled(left, top, left + 6, top + 2.5), fill=dimmed(color, 0.55))
        x += wide


def _paint_windows(
    easel: Easel, u: Iterator[float], x: float, top: float, wide: float, high: float, *, dark: bool
) -> None:
    lit = int(next(u) * 2**20)
    for row in range(int(high // 6)):
        for column in range(int(wide // 5)):
            left, upper = x + 1.5 + 5 * column, top + 2 + 6 * row
            easel.box(left, upper, left + 2.2, upper + 3, (45, 52, 64))
            if dark and lit >> (4 * row + column) & 1:
                easel.shine.rectangle(scaled(left, upper, left + 2.2, upper + 3), fill=(120, 95, 48))


def _paint_road(easel: Easel, u: Iterator[float], horizon: int) -> None:
    right = WIDTH + 2 * MARGIN
    shade = round(82 + 30 * next(u))
    easel.box(0, horizon, right, horizon + 7, (150, 146, 138))
    easel.box(0, horizon + 7, right, HEIGHT, (shade, shade, shade + 3))
    stripe, paint = 4 + 2 * next(u), round(190 + 50 * next(u))
    for k in range(int(right / stripe / 2) + 1):  # kerb stones: wherever one looks, speed can be seen
        easel.box(2 * k * stripe, horizon + 6, (2 * k + 1) * stripe, horizon + 9, (paint, paint, paint))
        easel.box((2 * k + 1) * stripe, horizon + 6, (2 * k + 2) * stripe, horizon + 9, (60, 58, 60))
    start = 20 * next(u)
    for k in range(9):
        left = start + 20 * k
        easel.shape(
            [(left, 66), (left + 9, 66), (left + 8, 69), (left - 2, 69)],
            (220, 218, 205),
        )
    for _ in range(12):
        x, y = right * next(u), horizon + 11 + 26 * next(u)
        easel.box(x, y, x + 2 + 3 * next(u), y + 1.5, (shade - 28, shade - 28, shade - 26))


def _paint_trees(easel: Easel, u: Iterator[float], horizon: int) -> None:
    for _ in range(int(5 * next(u))):
        x, size, tone = (WIDTH + 2 * MARGIN) * next(u), 5 + 6 * next(u), next(u)
        green = (round(30 + 40 * tone), round(85 + 60 * tone), round(35 + 25 * tone))
        easel.box(x - 1, horizon - 6, x + 1, horizon + 6, (74, 56, 40))
        easel.disc(x, horizon - 6 - size, size, green)
        easel.disc(x - size / 2, horizon - 4 - size / 2, size * 0.7, green)


def _paint_posts(easel: Easel, u: Iterator[float], horizon: int, *, dark: bool) -> None:
    for _ in range(int(4 * next(u))):
        x, high, arm = (WIDTH + 2 * MARGIN) * next(u), 22 + 12 * next(u), 5 - 10 * next(u)
        easel.line([(x, horizon + 7), (x, horizon - high), (x + arm, horizon - high)], (80, 84, 88), 1)
        easel.box(x + arm - 2, horizon - high - 1, x + arm + 2, horizon - high + 1, (226, 200, 110))
        if dark:
            easel.lamp(x + arm, horizon - high + 0.5, 4.5, 2.5, (255, 190, 80))


def _foreground(scene: _Scene, frame: int, smear: float) -> tuple[Pixels, Pixels]:
    """Things in front, premultiplied RGBA [80, 128, 4], and the light they give, [80, 128, 3]."""
    size = (WIDTH * SCALE, HEIGHT * SCALE)
    sheet, shine = Image.new("RGBA", size), Image.new("RGB", size)
    easel = Easel(sheet=ImageDraw.Draw(sheet), shine=ImageDraw.Draw(shine))
    _paint_things(easel, scene, frame)
    things = _smeared(np.asarray(sheet.convert("RGBa").reduce(SCALE), np.float32), smear)
    return things, _smeared(shining(shine.reduce(SCALE), scene.air), smear)


def _smeared(sheet: Pixels, smear: float) -> Pixels:
    if smear < 1.2:
        return sheet
    margin = 4
    return _window(_running_sums(np.pad(sheet, ((0, 0), (margin, margin), (0, 0)))), margin, smear)


def _paint_things(easel: Easel, scene: _Scene, frame: int) -> None:
    drives, position, looks = scene.drives, scene.position, iter(scene.numbers[400:])
    u = drives.places[position].tolist()
    sway = sway_of(u)
    if u[12] < 0.16:
        place = Position(x=slot(u, 5), y=26 + 16 * u[13], size=8 + 8 * u[14])
        paint_round_sign(easel, place.moved(frame, sway), next(looks))
    for place in stop_signs_of(drives, position, frame):
        paint_stop_sign(easel, place)
    if drives.car[position]:
        place = Position(x=slot(u, 2), y=56 + 18 * u[15], size=11 + 14 * u[16])
        paint_car(easel, place.moved(frame, sway), looks, dark=scene.air.time != "day")
    for place in lights_of(drives, position, frame):
        paint_light(easel, place, str(drives.light_color[position]))
    if drives.bicycle[position]:
        place = Position(x=slot(u, 3), y=61 + 15 * u[17], size=21 + 15 * u[18])
        paint_bicycle(easel, place.moved(frame, 2 * sway), looks)
    if drives.pedestrian[position]:
        place = Position(x=slot(u, 4), y=61 + 16 * u[19], size=25 + 20 * u[34])
        paint_pedestrian(easel, place.moved(frame, 2 * sway), looks, frame)
