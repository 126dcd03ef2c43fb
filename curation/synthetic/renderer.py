"""The renderer: it draws the background once a drive and the objects once a frame."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from curation.arrays import Float32s
from curation.synthetic.background import draw_background
from curation.synthetic.drawing import (
    MARGIN,
    SCALE,
    Canvas,
    draw_bicycle,
    draw_car,
    draw_pedestrian,
    draw_round_sign,
    draw_stop_sign,
    draw_traffic_light,
)
from curation.synthetic.drives import RENDER_STREAM, Drives, generator, speed_at
from curation.synthetic.lighting import Conditions, lens_tint, object_light, with_fog, with_halo, with_rain
from curation.synthetic.placement import (
    HEIGHT,
    WIDTH,
    Placement,
    lane_x,
    sideways_speed,
    stop_signs_of,
    traffic_lights_of,
)
from curation.synthetic.signs import draw_sign
from curation.synthetic.traffic import Traffic, traffic_of

__all__ = ["render"]

_STREET = WIDTH + 2 * MARGIN


def render(drives: Drives, seed: int, *, signs: bool = False) -> Iterator[tuple[int, int, Image.Image]]:
    """Render each frame of `drives`: (row of the drive in `drives`, frame, RGB image of 128 x 80).

    With `signs`, scenes are those of `curation.synthetic.traffic`.
    """
    for row in range(len(drives)):
        scene = _scene(drives, row, seed, signs=signs)
        for frame in range(int(drives.frames[row])):
            yield row, frame, _render_frame(scene, frame)


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """Drive `row` of `drives` with its background drawn.

    `sums` are running sums of the background along x, float32 [80, 161, 3], or [80, 321, 3] with `traffic`: the street
    twice, end to end. The uniform `numbers` decide how objects look; the generator `noise` makes rain and pixel grain,
    which differ from frame to frame.
    """

    drives: Drives
    row: int
    conditions: Conditions
    sums: Float32s
    numbers: list[float]
    noise: np.random.Generator
    traffic: Traffic | None = None

    def window(self, frame: int) -> tuple[float, float, float]:
        """The left edge of the street in view, and the lengths of the blur of the street and of objects, in pixels."""
        if self.traffic:
            smear = self.traffic.smear(frame)
            return MARGIN + self.traffic.pan(frame) % _STREET, smear, smear
        speed = float(speed_at(self.drives.speed[self.row], self.drives.gain[self.row], np.array(frame)))
        smear = 1 + speed / 120 * 17
        return MARGIN + 4 * math.sin(frame + self.numbers[0] * 6), smear, 1 + 0.22 * (smear - 1)


def _scene(drives: Drives, row: int, seed: int, *, signs: bool) -> _Scene:
    noise = generator(seed, RENDER_STREAM, int(drives.number[row]) << 20)
    numbers = noise.random(512).tolist()
    time, weather, camera = (str(values[row]) for values in (drives.time_of_day, drives.weather, drives.camera))
    conditions = Conditions(time=time, weather=weather, camera=camera)
    street = draw_background(conditions, iter(numbers[16:]))
    traffic = traffic_of(drives, row, seed) if signs else None
    sums = _running_sums(np.concatenate([street, street], axis=1) if signs else street)
    return _Scene(
        drives=drives, row=row, conditions=conditions, sums=sums, numbers=numbers, noise=noise, traffic=traffic
    )


def _render_frame(scene: _Scene, frame: int) -> Image.Image:
    conditions = scene.conditions
    left, smear, near = scene.window(frame)
    street = _window(scene.sums, left, smear)
    objects, emitted = _foreground(scene, frame, near)
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


def _foreground(scene: _Scene, frame: int, smear: float) -> tuple[Float32s, Float32s]:
    """Objects in front, premultiplied RGBA [80, 128, 4], and the light that they give, [80, 128, 3]."""
    size = (WIDTH * SCALE, HEIGHT * SCALE)
    diffuse, emissive = Image.new("RGBA", size), Image.new("RGB", size)
    canvas = Canvas(diffuse=ImageDraw.Draw(diffuse), emissive=ImageDraw.Draw(emissive))
    if scene.traffic:
        _draw_traffic(canvas, scene.traffic, frame, dark=scene.conditions.time != "day")
    else:
        _draw_objects(canvas, scene, frame)
    objects = _blurred(np.asarray(diffuse.convert("RGBa").reduce(SCALE), np.float32), smear)
    return objects, _blurred(with_halo(emissive.reduce(SCALE), scene.conditions), smear)


def _blurred(layer: Float32s, smear: float) -> Float32s:
    if smear < 1.2:
        return layer
    margin = 4 if smear < 6 else 8
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


def _draw_traffic(canvas: Canvas, traffic: Traffic, frame: int, *, dark: bool) -> None:
    """Signs and road users; who stands takes no steps."""
    for thing in traffic.at(frame):
        looks, steps = iter(thing.looks), frame if thing.moving else 0
        match thing.kind:
            case "sign":
                draw_sign(canvas, thing.at, thing.sign)
            case "car":
                draw_car(canvas, thing.at, looks, dark=dark)
            case "bicycle":
                draw_bicycle(canvas, thing.at, looks)
            case "pedestrian":
                draw_pedestrian(canvas, thing.at, looks, steps)
