"""Light, fog, rain and the lens: how a drawn scene becomes the pixels of a photo."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from curation.arrays import Float32s
from curation.synthetic.placement import HEIGHT, WIDTH

__all__ = ["OPAQUE", "Conditions", "lens_tint", "object_light", "road_light", "with_fog", "with_halo", "with_rain"]


_AMBIENT = {"day": (1.0, 1.0, 1.0), "dusk": (0.70, 0.55, 0.52), "night": (0.17, 0.18, 0.25)}
_TINT = {"front": (1.0, 1.0, 1.0), "left": (0.93, 0.98, 1.06), "right": (1.06, 1.0, 0.92)}
_GLOW = {"day": 0.25, "dusk": 0.8, "night": 1.2}


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Time of day, weather and camera of a drive."""

    time: str
    weather: str
    camera: str


OPAQUE = np.ones((HEIGHT, 1, 1), np.float32)


@cache
def _ambient(time: str) -> Float32s:
    return np.array(_AMBIENT[time], np.float32)


@cache
def road_light(time: str, horizon: int) -> Float32s:
    """Light on the road, [80, 1, 3]: that of the time of day and, at night, of the car's own head lamps."""
    near = np.clip((np.arange(HEIGHT) - horizon) / (HEIGHT - horizon), 0, 1)[:, None, None]
    lamps = 0.38 if time == "night" else 0.0
    return _ambient(time) + (lamps * near**0.5).astype(np.float32)


@cache
def object_light(time: str) -> Float32s:
    """Light on the objects in front, RGB, at a time of day."""
    return _ambient(time) + np.float32(0.30 if time == "night" else 0)


def with_halo(emissive: Image.Image, conditions: Conditions) -> Float32s:
    """Lamps with the halo around them, which is wider in fog."""
    lamps = np.asarray(emissive, np.float32)
    if emissive.getbbox() is None:
        return lamps
    fog = conditions.weather == "fog"
    halo = np.asarray(emissive.filter(ImageFilter.GaussianBlur(4 if fog else 2.5)), np.float32)
    return lamps * np.float32(0.85 if fog else 1) + halo * np.float32(_GLOW[conditions.time] + 0.3 * fog)


def with_fog(lit: Float32s, opaque: Float32s, conditions: Conditions, *, depth: float) -> Float32s:
    """A lit layer behind fog; `depth` (0 to 1) is the share of the fog in front of it."""
    if conditions.weather != "fog":
        return lit
    veil = np.array((190, 195, 200), np.float32) * _ambient(conditions.time) * np.float32(depth)
    return lit * np.float32(1 - depth) + opaque * veil


def with_rain(image: Float32s, conditions: Conditions, noise: np.random.Generator) -> Float32s:
    """The image with streaks of rain, if it rains."""
    if conditions.weather != "rain":
        return image
    drops = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(drops)
    for x, y, long in noise.random((34, 3)).tolist():
        left, top, high = x * WIDTH, y * (HEIGHT + 10) - 10, 5 + 7 * long
        draw.line([left, top, left - 0.25 * high, top + high], fill=90)
    streaks: Float32s = np.asarray(drops, np.float32)[..., None] / np.float32(255)
    bright = np.array((190, 198, 210), np.float32) * (_ambient(conditions.time) + np.float32(0.1))
    return image * (1 - streaks) + streaks * bright


@cache
def lens_tint(camera: str) -> Float32s:
    """Tint and vignette of a camera, [80, 128, 3]; side cameras are darker towards the car."""
    x, y = np.linspace(-1, 1, WIDTH)[None, :, None], np.linspace(-1, 1, HEIGHT)[:, None, None]
    middle = {"front": 0.0, "left": 0.25, "right": -0.25}[camera]
    vignette = 1 - 0.16 * ((x - middle) ** 2 + 0.6 * y**2)
    tinted: Float32s = (vignette * np.array(_TINT[camera])).astype(np.float32)
    return tinted
