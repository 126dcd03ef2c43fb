"""Scenes with signs: which signs and road users a drive meets, where they are in each frame, and who moves.

Everything that stands, and the street behind it, moves past the camera by `PAN` pixels a frame for each km/h. A road
user that moves has a speed of its own beside that. So two frames show who moves and how fast the camera drives; in one
frame speed shows only as blur, and the exposure, which the blur also depends on, differs from drive to drive.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from curation.synthetic.drives import TRAFFIC_STREAM, Drives, generator, speed_at
from curation.synthetic.placement import WIDTH, Placement
from curation.synthetic.signs import SIGNS

__all__ = ["NUMBERS", "PAN", "Boxed", "Traffic", "numbers_of", "traffic_of"]

PAN: Final = 1 / 10
"""Pixels by which the street moves from one frame to the next, for each km/h."""

NUMBERS: Final = 64
"""Uniform numbers of a drive that its traffic is made of; as many again decide about its labels."""

_LANES, _LANE = 11, 19.0
_ROAD_USERS: Final = {"car": 0.55, "bicycle": 0.2, "pedestrian": 0.25}
_WIDE: Final = {"car": 1.5, "bicycle": 1.05, "pedestrian": 0.42, "sign": 1.0}


@dataclass(frozen=True, kw_only=True)
class Boxed:
    """One sign or road user: `kind` as the class of its box, `sign` the name of a sign, `own` its pixels a frame.

    `at` is where it is in frame 0: the centre of a sign, the foot of a road user. `looks` are uniform numbers.
    """

    kind: str
    at: Placement
    sign: str = ""
    own: float = 0.0
    looks: tuple[float, ...] = ()

    @property
    def moving(self) -> bool:
        return self.own != 0

    def box(self) -> dict[str, object] | None:
        """Its box (class, x, y, w, h in pixels) with its attributes; None where less than half of it is in view."""
        at, wide = self.at, _WIDE[self.kind] * self.at.size
        top = at.y - at.size * (0.5 if self.kind == "sign" else 1.0)
        left, right = (float(np.clip(at.x + side * wide / 2, 0, WIDTH)) for side in (-1, 1))
        if right - left < wide / 2:
            return None
        sides = (left, top, right - left, at.size)
        attributes = [("sign_kind", self.sign)] if self.sign else [("moving", "true" if self.moving else "false")]
        return {
            "class": self.kind, **dict(zip("xywh", (round(side, 2) for side in sides), strict=True)),
            "attributes": attributes,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """The traffic of one drive in frame 0; `exposure` (0 to 1) is the part of a frame's time that blurs."""

    exposure: float
    first: float
    gain: float
    things: tuple[Boxed, ...]

    def pan(self, frame: int) -> float:
        """How far the street has moved, in pixels, from frame 0 to `frame`."""
        speeds = speed_at(np.array(self.first), np.array(self.gain), np.arange(1, frame + 1))
        return PAN * float(np.sum(speeds))

    def smear(self, frame: int) -> float:
        """The length of the blur at `frame`, in pixels."""
        return 1 + PAN * self.exposure * float(speed_at(np.array(self.first), np.array(self.gain), np.array(frame)))

    def at(self, frame: int) -> list[Boxed]:
        """Signs, then road users, where they are at `frame`, in view or not."""
        pan = self.pan(frame)
        return [replace(thing, at=replace(thing.at, x=thing.at.x - pan + thing.own * frame)) for thing in self.things]

    def boxes(self, frame: int, *, signs: bool) -> list[dict[str, object]]:
        """Boxes of the signs, or of the road users, that are in view at `frame`."""
        found = (thing.box() for thing in self.at(frame) if bool(thing.sign) == signs)
        return [box for box in found if box]


def numbers_of(number: int, seed: int) -> list[float]:
    """The uniform numbers [2 * `NUMBERS`] of the drive `number`: those of its traffic, then those of its labels."""
    numbers: list[float] = generator(seed, TRAFFIC_STREAM, number * 2 * NUMBERS).random(2 * NUMBERS).tolist()
    return numbers


def traffic_of(drives: Drives, row: int, seed: int) -> Traffic:
    """The traffic of drive `row`: up to three signs and three road users, each in a lane of its own."""
    u = numbers_of(int(drives.number[row]), seed)
    signs, users = _count(u[1], (0.15, 0.35, 0.3, 0.2)), _count(u[2], (0.2, 0.35, 0.3, 0.15))
    sign_lanes, user_lanes = _order(u[42:53]), _order(u[53:64])
    things = [_sign(iter(u[4 + 5 * k : 9 + 5 * k]), lane) for k, lane in enumerate(sign_lanes[:signs])]
    things += [_road_user(u[19 + 7 * k : 26 + 7 * k], lane) for k, lane in enumerate(user_lanes[:users])]
    return Traffic(
        exposure=0.08 * 11 ** u[0], first=float(drives.speed[row]), gain=float(drives.gain[row]), things=tuple(things)
    )


def _sign(u: Iterator[float], lane: int) -> Boxed:
    size = 13 + 9 * next(u)
    at = Placement(x=_x(lane, next(u)), y=4 + size / 2 + 16 * next(u), size=size)
    return Boxed(kind="sign", at=at, sign=SIGNS[int(len(SIGNS) * next(u) ** 1.3)])


def _road_user(u: Sequence[float], lane: int) -> Boxed:
    kind = list(_ROAD_USERS)[_count(u[0], tuple(_ROAD_USERS.values()))]
    size = {"car": 12 + 9 * u[1], "bicycle": 19 + 9 * u[1], "pedestrian": 23 + 12 * u[1]}[kind]
    fastest = {"car": 5.0, "bicycle": 3.5, "pedestrian": 2.5}[kind]
    own = (1.2 + (fastest - 1.2) * u[3]) * (1 if u[4] < 0.5 else -1) if u[2] < 0.5 else 0.0
    at = Placement(x=_x(lane, u[5]), y=58 + 17 * u[6], size=size)
    return Boxed(kind=kind, at=at, own=own, looks=tuple((u[6] * k) % 1 for k in (3, 7, 11, 17, 23)))


def _count(u: float, shares: Sequence[float]) -> int:
    """The place of `u` in [0, 1) among shares that sum to 1."""
    return min(int(np.searchsorted(np.cumsum(shares), u, side="right")), len(shares) - 1)


def _order(keys: Sequence[float]) -> list[int]:
    return sorted(range(_LANES), key=keys.__getitem__)


def _x(lane: int, u: float) -> float:
    return 10 + _LANE * lane + 5 * (u - 0.5)
