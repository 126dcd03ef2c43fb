"""Light, weather and lens: what lies between a scene and its picture."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from curation.synthetic.positions import HEIGHT, WIDTH

__all__ = ["OPAQUE", "Air", "fogged", "lens", "rained", "shining", "street_light", "thing_light"]

Pixels = npt.NDArray[np.float32]


_AMBIENT = {"day": (1.0, 1.0, 1.0), "dusk": (0.70, 0.55, 0.52), "night": (0.17, 0.18, 0.25)}
_TINT = {"front": (1.0, 1.0, 1.0), "left": (0.93, 0.98, 1.06), "right": (1.06, 1.0, 0.92)}
_GLOW = {"day": 0.25, "dusk": 0.8, "night": 1.2}


@dataclass(frozen=True, kw_only=True)
class Air:
    """What lies between the lens and the street."""

    time: str
    weather: str
    camera: str


OPAQUE = np.ones((HEIGHT, 1, 1), np.float32)


@cache
def _ambient(time: str) -> Pixels:
    return np.array(_AMBIENT[time], np.float32)


@cache
def street_light(time: str, horizon: int) -> Pixels:
    """What falls on the street, [80, 1, 3]: the light of the hour and, at night, of one's own head lamps."""
    near = np.clip((np.arange(HEIGHT) - horizon) / (HEIGHT - horizon), 0, 1)[:, None, None]
    lamps = 0.38 if time == "night" else 0.0
    return _ambient(time) + (lamps * near**0.5).astype(np.float32)


@cache
def thing_light(time: str) -> Pixels:
    """The light on things in front, RGB, at a time of day."""
    return _ambient(time) + np.float32(0.30 if time == "night" else 0)


def shining(shine: Image.Image, air: Air) -> Pixels:
    """Lamps and the halo around them, wider in fog."""
    lamps = np.asarray(shine, np.float32)
    if shine.getbbox() is None:
        return lamps
    fog = air.weather == "fog"
    halo = np.asarray(shine.filter(ImageFilter.GaussianBlur(4 if fog else 2.5)), np.float32)
    return lamps * np.float32(0.85 if fog else 1) + halo * np.float32(_GLOW[air.time] + 0.3 * fog)


def fogged(lit: Pixels, opaque: Pixels, air: Air, *, depth: float) -> Pixels:
    """A lit sheet behind fog; `depth` 0 to 1 says how much of the air lies before it."""
    if air.weather != "fog":
        return lit
    veil = np.array((190, 195, 200), np.float32) * _ambient(air.time) * np.float32(depth)
    return lit * np.float32(1 - depth) + opaque * veil


def rained(canvas: Pixels, air: Air, grain: np.random.Generator) -> Pixels:
    """A picture with streaks of rain, if it rains."""
    if air.weather != "rain":
        return canvas
    drops = Image.new("L", (WIDTH, HEIGHT))
    pencil = ImageDraw.Draw(drops)
    for x, y, long in grain.random((34, 3)).tolist():
        left, top, high = x * WIDTH, y * (HEIGHT + 10) - 10, 5 + 7 * long
        pencil.line([left, top, left - 0.25 * high, top + high], fill=90)
    streaks: Pixels = np.asarray(drops, np.float32)[..., None] / np.float32(255)
    bright = np.array((190, 198, 210), np.float32) * (_ambient(air.time) + np.float32(0.1))
    return canvas * (1 - streaks) + streaks * bright


@cache
def lens(camera: str) -> Pixels:
    """Tint and vignette of a camera, [80, 128, 3]; those at the sides are darker towards the car."""
    x, y = np.linspace(-1, 1, WIDTH)[None, :, None], np.linspace(-1, 1, HEIGHT)[:, None, None]
    middle = {"front": 0.0, "left": 0.25, "right": -0.25}[camera]
    lens = 1 - 0.16 * ((x - middle) ** 2 + 0.6 * y**2)
    tinted: Pixels = (lens * np.array(_TINT[camera])).astype(np.float32)
    return tinted
