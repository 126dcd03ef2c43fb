"""Where objects are in the image, in pixels."""

from dataclasses import dataclass

import numpy as np

from curation.synthetic.drives import Drives

__all__ = ["HEIGHT", "WIDTH", "Placement", "boxes_of", "lane_x", "sideways_speed", "stop_signs_of", "traffic_lights_of"]


WIDTH, HEIGHT = 128, 80
"""Size of every image, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Position and size of an object: (x, y) is its centre, or its foot on the road; `size` is a height or diameter."""

    x: float
    y: float
    size: float

    def moved(self, frame: int, sideways: float) -> "Placement":
        """The object `frame` frames later: nearer, and shifted by `sideways` pixels a frame."""
        zoom = 1 + 0.011 * frame
        x = WIDTH / 2 + (self.x - WIDTH / 2) * zoom + sideways * frame
        return Placement(x=min(max(x, 9.0), WIDTH - 9.0), y=self.y + 0.2 * frame, size=self.size * zoom)


def traffic_lights_of(drives: Drives, row: int, frame: int) -> list[Placement]:
    """Traffic lights in view, by centre; `size` is the diameter of a lamp, at least 4 pixels."""
    u, lights = drives.layout[row].tolist(), []
    if drives.light_color[row] != "none":
        for first in (0, 4)[: 1 + int(u[8] < 0.25)]:
            size = 4.2 * 2.3 ** (u[first] ** 1.4) * (1 if first == 0 else 0.8)
            size = max(size, 4.2)
            top = 3 + u[first + 1] * max(0.0, 46 - 4.3 * size)
            at = Placement(x=lane_x(u, 0 if first == 0 else 6), y=top + 2.15 * size, size=size)
            lights.append(at.moved(frame, sideways_speed(u)))
    return lights


def stop_signs_of(drives: Drives, row: int, frame: int) -> list[Placement]:
    """The stop sign in view, if there is one, by centre; `size` is its height."""
    if not drives.stop_sign[row]:
        return []
    u = drives.layout[row].tolist()
    size = 11 + 12 * u[9] ** 1.3
    return [Placement(x=lane_x(u, 1), y=18 + size / 2 + 14 * u[10], size=size).moved(frame, sideways_speed(u))]


def lane_x(u: list[float], kind: int) -> float:
    """The x of a kind of object: each kind has one of 7 lanes, permuted by drive, so objects stay side by side."""
    lane = sorted(range(7), key=u[20:27].__getitem__)[kind]
    return 12 + 17 * lane + 6 * (u[27 + kind] - 0.5)


def sideways_speed(u: list[float]) -> float:
    """Sideways motion of the objects, in pixels a frame."""
    return 1.2 * u[11] - 0.6


def boxes_of(drives: Drives, row: int, frame: int) -> list[dict[str, object]]:
    """Boxes (class, x, y, w, h in pixels) of the traffic lights and stop signs in view."""
    heads = [_box("traffic_light", p, 1.7, 4.3) for p in traffic_lights_of(drives, row, frame)]
    return heads + [_box("stop_sign", p, 1.0, 1.0) for p in stop_signs_of(drives, row, frame)]


def _box(name: str, at: Placement, wide: float, high: float) -> dict[str, object]:
    left, right = (np.clip(at.x + side * wide * at.size / 2, 0, WIDTH) for side in (-1, 1))
    top, bottom = (np.clip(at.y + side * high * at.size / 2, 0, HEIGHT) for side in (-1, 1))
    x, y, w, h = (round(float(side), 2) for side in (left, top, right - left, bottom - top))
    return {"class": name, "x": x, "y": y, "w": w, "h": h}
