"""The renderer: it draws the background once a drive and the objects once a frame."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from curation.arrays import Float32s
from curation.synthetic.drawing import (
    LAMP_COLORS,
    MARGIN,
    SCALE,
    Canvas,
    Color,
    dimmed,
    draw_bicycle,
    draw_car,
    draw_pedestrian,
    draw_round_sign,
    draw_stop_sign,
    draw_traffic_light,
    scaled,
)
from curation.synthetic.drives import RENDER_STREAM, Drives, generator, speed_at
from curation.synthetic.lighting import (
    OPAQUE,
    Conditions,
    lens_tint,
    object_light,
    road_light,
    with_fog,
    with_halo,
    with_rain,
)
from curation.synthetic.placement import (
    HEIGHT,
    WIDTH,
    Placement,
    lane_x,
    sideways_speed,
    stop_signs_of,
    traffic_lights_of,
)

__all__ = ["render"]


def render(drives: Drives, seed: int) -> Iterator[tuple[int, int, Image.Image]]:
    """Render each frame of `drives`: (row of the drive in `drives`, frame, RGB image of 128 x 80)."""
    for row in range(len(drives)):
        scene = _scene(drives, row, seed)
        for frame in range(int(drives.frames[row])):
            yield row, frame, _render_frame(scene, frame)


_HORIZON = {"front": 42, "left": 39, "right": 45}


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """Drive `row` of `drives` with its background drawn.

    `sums` are running sums of the background along x, float32 [80, 161, 3]. The uniform `numbers` decide how objects
    look; the generator `grain` makes rain and pixel grain, which differ from frame to frame.
    """

    drives: Drives
    row: int
    conditions: Conditions
    sums: Float32s
    numbers: list[float]
    noise: np.random.Generator


def _scene(drives: Drives, row: int, seed: int) -> _Scene:
    noise = generator(seed, RENDER_STREAM, int(drives.number[row]) << 20)
    numbers = noise.random(512).tolist()
    time, weather, camera = (str(values[row]) for values in (drives.time_of_day, drives.weather, drives.camera))
    conditions = Conditions(time=time, weather=weather, camera=camera)
    sums = _running_sums(_background(conditions, iter(numbers[16:])))
    return _Scene(drives=drives, row=row, conditions=conditions, sums=sums, numbers=numbers, noise=noise)


def _render_frame(scene: _Scene, frame: int) -> Image.Image:
    drives, row, conditions = scene.drives, scene.row, scene.conditions
    speed = float(speed_at(drives.speed[row], drives.gain[row], np.array(frame)))
    smear = 1 + speed / 120 * 17
    street = _window(scene.sums, MARGIN + 4 * math.sin(frame + scene.numbers[0] * 6), smear)
    objects, emitted = _foreground(scene, frame, 1 + 0.22 * (smear - 1))
    opaque = objects[..., 3:] / np.float32(255)
    lit = with_fog(objects[..., :3] * object_light(conditions.time), opaque, conditions, depth=0.42)
    image = with_rain(street * (1 - opaque) + lit + emitted, conditions, scene.noise) * lens_tint(conditions.camera)
    grain = np.float32(5 if conditions.time == "day" else 9)
    image += grain * (scene.noise.random(image.shape, dtype=np.float32) - np.float32(0.5))
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))


def _running_sums(layer: Float32s) -> Float32s:
    sums = np.zeros((layer.shape[0], layer.shape[1] + 1, layer.shape[2]), np.float32)
    np.cumsum(layer, axis=1, out=sums[:, 1:])
    return sums


def _window(sums: Float32s, left: float, smear: float, width: int = WIDTH) -> Float32s:
    """Columns `left` to `left + width` with motion blur: each is the mean of `smear` columns around it."""
    middle = left + 0.5
    return (_sums_at(sums, middle + smear / 2, width) - _sums_at(sums, middle - smear / 2, width)) / np.float32(smear)


def _sums_at(sums: Float32s, start: float, width: int) -> Float32s:
    whole = math.floor(start)
    part = np.float32(start - whole)
    return sums[:, whole : whole + width] * (1 - part) + sums[:, whole + 1 : whole + 1 + width] * part


def _background(conditions: Conditions, u: Iterator[float]) -> Float32s:
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


def _foreground(scene: _Scene, frame: int, smear: float) -> tuple[Float32s, Float32s]:
    """Objects in front, premultiplied RGBA [80, 128, 4], and the light that they give, [80, 128, 3]."""
    size = (WIDTH * SCALE, HEIGHT * SCALE)
    diffuse, emissive = Image.new("RGBA", size), Image.new("RGB", size)
    canvas = Canvas(diffuse=ImageDraw.Draw(diffuse), emissive=ImageDraw.Draw(emissive))
    _draw_objects(canvas, scene, frame)
    objects = _blurred(np.asarray(diffuse.convert("RGBa").reduce(SCALE), np.float32), smear)
    return objects, _blurred(with_halo(emissive.reduce(SCALE), scene.conditions), smear)


def _blurred(layer: Float32s, smear: float) -> Float32s:
    if smear < 1.2:
        return layer
    margin = 4
    return _window(_running_sums(np.pad(layer, ((0, 0), (margin, margin), (0, 0)))), margin, smear)


def _draw_objects(canvas: Canvas, scene: _Scene, frame: int) -> None:
    drives, row, looks = scene.drives, scene.row, iter(scene.numbers[400:])
    u = drives.layout[row].tolist()
    sideways = sideways_speed(u)
    if u[12] < 0.16:
        at = Placement(x=lane_x(u, 5), y=26 + 16 * u[13], size=8 + 8 * u[14])
        draw_round_sign(canvas, at.moved(frame, sideways), next(looks))
    for at in stop_signs_of(drives, row, frame):
        draw_stop_sign(canvas, at)
    if drives.car[row]:
        at = Placement(x=lane_x(u, 2), y=56 + 18 * u[15], size=11 + 14 * u[16])
        draw_car(canvas, at.moved(frame, sideways), looks, dark=scene.conditions.time != "day")
    for at in traffic_lights_of(drives, row, frame):
        draw_traffic_light(canvas, at, str(drives.light_color[row]))
    if drives.bicycle[row]:
        at = Placement(x=lane_x(u, 3), y=61 + 15 * u[17], size=21 + 15 * u[18])
        draw_bicycle(canvas, at.moved(frame, 2 * sideways), looks)
    if drives.pedestrian[row]:
        at = Placement(x=lane_x(u, 4), y=61 + 16 * u[19], size=25 + 20 * u[34])
        draw_pedestrian(canvas, at.moved(frame, 2 * sideways), looks, frame)
