"""Where things stand, in pixels of the image."""

from dataclasses import dataclass

import numpy as np

from curation.synthetic.drives import Drives

__all__ = ["HEIGHT", "WIDTH", "Position", "boxes_of", "lights_of", "slot", "stop_signs_of", "sway_of"]


WIDTH, HEIGHT = 128, 80
"""Size of every image, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """A thing at (x, y): its centre, or its foot if it stands on the road; `size`: a height or diameter."""

    x: float
    y: float
    size: float

    def moved(self, frame: int, sway: float) -> "Position":
        """The same thing a little later: a little nearer, a little aside."""
        zoom = 1 + 0.011 * frame
        x = WIDTH / 2 + (self.x - WIDTH / 2) * zoom + sway * frame
        return Position(x=min(max(x, 9.0), WIDTH - 9.0), y=self.y + 0.2 * frame, size=self.size * zoom)


def lights_of(drives: Drives, position: int, frame: int) -> list[Position]:
    """Heads of the traffic lights in view, by centre; `size` is the lamp's diameter, at least 4 pixels."""
    u, lights = drives.places[position].tolist(), []
    if drives.light_color[position] != "none":
        for first in (0, 4)[: 1 + int(u[8] < 0.25)]:
            size = 4.2 * 2.3 ** (u[first] ** 1.4) * (1 if first == 0 else 0.8)
            size = max(size, 4.2)
            top = 3 + u[first + 1] * max(0.0, 46 - 4.3 * size)
            place = Position(x=slot(u, 0 if first == 0 else 6), y=top + 2.15 * size, size=size)
            lights.append(place.moved(frame, sway_of(u)))
    return lights


def stop_signs_of(drives: Drives, position: int, frame: int) -> list[Position]:
    """The stop sign in view, if there is one, by centre; `size` is its height."""
    if not drives.stop_sign[position]:
        return []
    u = drives.places[position].tolist()
    size = 11 + 12 * u[9] ** 1.3
    return [Position(x=slot(u, 1), y=18 + size / 2 + 14 * u[10], size=size).moved(frame, sway_of(u))]


def slot(u: list[float], thing: int) -> float:
    """Things stand side by side: a permutation of 7 lanes, with some play."""
    lane = sorted(range(7), key=u[20:27].__getitem__)[thing]
    return 12 + 17 * lane + 6 * (u[27 + thing] - 0.5)


def sway_of(u: list[float]) -> float:
    """How far things move aside from frame to frame, in pixels."""
    return 1.2 * u[11] - 0.6


def boxes_of(drives: Drives, position: int, frame: int) -> list[dict[str, object]]:
    """Boxes (class, x, y, w, h) of lights and stop signs in view."""
    heads = [_box("traffic_light", p, 1.7, 4.3) for p in lights_of(drives, position, frame)]
    return heads + [_box("stop_sign", p, 1.0, 1.0) for p in stop_signs_of(drives, position, frame)]


def _box(name: str, place: Position, wide: float, high: float) -> dict[str, object]:
    left, right = (np.clip(place.x + side * wide * place.size / 2, 0, WIDTH) for side in (-1, 1))
    top, bottom = (np.clip(place.y + side * high * place.size / 2, 0, HEIGHT) for side in (-1, 1))
    x, y, w, h = (round(float(side), 2) for side in (left, top, right - left, bottom - top))
    return {"class": name, "x": x, "y": y, "w": w, "h": h}
