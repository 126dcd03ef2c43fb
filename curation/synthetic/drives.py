"""Drives: the facts of each scene, functions of (seed, number), and the choice of the drives of a data set."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.arrays import Bools, Floats

__all__ = [
    "LABEL_STREAM",
    "LONGEST",
    "RENDER_STREAM",
    "TRAFFIC_STREAM",
    "Drives",
    "choose_drives",
    "draw_drives",
    "generator",
    "natural_drives",
    "rare_floor",
    "rare_slices",
    "speed_at",
]


_FACTS, _KEEP, LABEL_STREAM, RENDER_STREAM, TRAFFIC_STREAM = range(5)  # streams of one seed
_FACT_COLUMNS, _LAYOUT_COLUMNS, LONGEST = 24, 40, 8
_SPLITS = {"train": 0.052, "validation": 0.006, "test": 0.942}  # of all drives; most of the last are not kept


@dataclass(frozen=True, kw_only=True)
class Drives:
    """Facts of n drives, an array of length n each; `layout` [n, 40], uniform in [0, 1), places the objects.

    `speed` (km/h) is the speed at the first frame; it changes by `gain` a frame. `start` counts microseconds since
    1970. `propensity` in (0, 1] is the probability that the drive is kept.
    """

    number: npt.NDArray[np.int64]
    frames: npt.NDArray[np.int64]
    split: npt.NDArray[np.str_]
    time_of_day: npt.NDArray[np.str_]
    weather: npt.NDArray[np.str_]
    camera: npt.NDArray[np.str_]
    light_color: npt.NDArray[np.str_]
    pedestrian: Bools
    car: Bools
    stop_sign: Bools
    bicycle: Bools
    speed: Floats
    gain: Floats
    start: npt.NDArray[np.int64]
    propensity: Floats
    layout: Floats

    def __len__(self) -> int:
        return len(self.number)

    def take(self, index: npt.NDArray[Any] | slice) -> "Drives":
        """The drives at `index` (positions, a mask or a slice)."""
        return Drives(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def draw_drives(seed: int, first: int, count: int) -> Drives:
    """Drives `first` to `first + count - 1` of the natural distribution; each depends only on `seed` and its number.

    >>> bool(draw_drives(0, 3, 2).speed[1] == draw_drives(0, 4, 1).speed[0])
    True
    """
    row = generator(seed, _FACTS, first * (_FACT_COLUMNS + _LAYOUT_COLUMNS)).random(
        (count, _FACT_COLUMNS + _LAYOUT_COLUMNS)
    )
    u = iter(row.T)
    highway = next(u) < 0.25
    split = _pick(next(u), _SPLITS)
    time = _pick(next(u), {"day": 0.60, "dusk": 0.12, "night": 0.28})
    weather = _pick(next(u), {"clear": 0.65, "rain": 0.22, "fog": 0.13})
    camera = _pick(next(u), {"front": 0.6, "left": 0.2, "right": 0.2})
    night, dusk = time == "night", time == "dusk"
    light = next(u) < np.where(highway, 0.02, 0.43)
    color = _pick_color(next(u), light, night)
    pedestrian = next(u) < np.where(highway, 0.01, np.where(light, 0.45, 0.22)) * np.where(night, 0.35, 1)
    car = next(u) < np.where(night, 0.30, np.where(dusk, 0.45, 0.55)) + 0.1 * highway
    stop_sign = next(u) < np.where(light | highway, 0.01, 0.22) * np.where(weather == "fog", 0.4, 1)
    bicycle = next(u) < np.where(highway, 0.004, np.where(night, 0.022, np.where(dusk, 0.13, 0.20)))
    slower = np.where(pedestrian, 0.6, 1) * np.where(stop_sign, 0.6, 1) * np.where(bicycle, 0.7, 1)
    slower *= _pick_from(color, {"none": 1.0, "green": 0.85, "yellow": 0.6, "red": 0.35})
    hour = np.where(night, 21, np.where(dusk, 18, 8)) + next(u) * np.where(night, 7, np.where(dusk, 2, 9))
    return Drives(
        number=np.arange(first, first + count),
        frames=(3 + next(u) * (LONGEST - 2)).astype(np.int64),
        split=split,
        time_of_day=time,
        weather=weather,
        camera=camera,
        light_color=color,
        pedestrian=pedestrian,
        car=car,
        stop_sign=stop_sign,
        bicycle=bicycle,
        speed=np.where(highway, 70 + 50 * next(u), 68 * next(u)) * slower,
        gain=4 * next(u) - 2,
        start=_microseconds(np.floor(next(u) * 365), hour),
        propensity=np.ones(count),
        layout=row[:, _FACT_COLUMNS:],
    )


def rare_slices(drives: Drives) -> dict[str, Bools]:
    """Masks [n] of the drives in each planted rare slice, by name."""
    night = drives.time_of_day == "night"
    yellow = drives.light_color == "yellow"
    return {
        "yellow": yellow,
        "yellow_at_night": yellow & night,
        "bicycle_at_night": drives.bicycle & night,
        "stop_sign_in_fog": drives.stop_sign & (drives.weather == "fog"),
        "pedestrian_rainy_night": drives.pedestrian & night & (drives.weather == "rain"),
    }


def rare_floor(images: int) -> int:
    """Fewest test images of each rare slice: `images` / 100, or 40 if that is more, but at most `images` / 50.

    >>> rare_floor(20_000), rare_floor(2_000), rare_floor(400)
    (200, 40, 8)
    """
    return max(images // 100, min(40, images // 50))


def choose_drives(images: int, seed: int) -> Drives:
    """The drives of a data set of `images` images in all, train first, then validation, then test.

    A drive's split is one of its facts. Train (70%) and validation (8%) take the first drives of their split, so they
    follow the natural distribution. A test drive is kept with its `propensity`, which depends only on its rareness.
    """
    test = _rare_enough(_candidates(images, seed), images, seed)
    validation = round(0.08 * images)
    train = images - validation - int(test.frames.sum())
    parts = [_first_images(seed, "train", train), _first_images(seed, "validation", validation), test]
    return _joined(parts)


def natural_drives(images: int, seed: int) -> Drives:
    """The drives of a data set of `images` images that follow the natural distribution in every split.

    The first drives of each: 70% of the images train, 10% validation, 20% test.
    """
    counts = {"train": round(0.7 * images), "validation": round(0.1 * images)}
    counts["test"] = images - sum(counts.values())
    return _joined([_first_images(seed, split, count) for split, count in counts.items()])


def speed_at(first: Floats, gain: Floats, frame: npt.NDArray[np.int64]) -> Floats:
    """Speed (km/h, 0 to 120) at a frame of a drive."""
    speed: Floats = np.clip(first + gain * frame, 0, 120)
    return speed.round(1)


def generator(seed: int, stream: int, skip: int) -> np.random.Generator:
    """The random generator of (`seed`, `stream`), after `skip` numbers (a multiple of 4)."""
    bits = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    bits.advance(skip // 4)  # one step of the counter makes four numbers
    return np.random.Generator(bits)


def _pick(u: Floats, shares: Mapping[str, float]) -> npt.NDArray[np.str_]:
    edges = np.cumsum(list(shares.values()))[:-1]
    return np.array(list(shares))[np.searchsorted(edges, u, side="right")]


def _pick_from(names: npt.NDArray[np.str_], values: Mapping[str, float]) -> Floats:
    return np.select([names == name for name in values], list(values.values())).astype(np.float64)


def _pick_color(u: Floats, light: Bools, night: Bools) -> npt.NDArray[np.str_]:
    yellow = np.where(night, 0.011, 0.040)
    color = np.where(u < yellow, "yellow", np.where(u < 0.55, "red", "green"))
    return np.where(light, color, "none")


def _microseconds(day: Floats, hour: Floats) -> npt.NDArray[np.int64]:
    first_day = 20_454  # 2026-01-01, in days since 1970
    tenths = ((first_day + day) * 24 + hour) * 36_000
    return np.floor(tenths).astype(np.int64) * 100_000


def _first_images(seed: int, split: str, images: int) -> Drives:
    """The first drives of `split` with `images` images in all; the last drive is cut short."""
    drawn = 64
    while True:
        drives = draw_drives(seed, 0, drawn)
        drives = drives.take(drives.split == split)
        ends = np.cumsum(drives.frames)
        if len(ends) and ends[-1] >= images:
            break
        drawn *= 2
    drives = drives.take(slice(int(np.searchsorted(ends, images)) + 1))
    last = drives.frames[-1:] - (ends[len(drives) - 1] - images)
    return replace(drives, frames=np.concatenate([drives.frames[:-1], last]))


def _candidates(images: int, seed: int) -> Drives:
    """Natural test drives, as many as hold `rare_floor` images of every rare slice."""
    floor = rare_floor(images)
    drawn = 250 * (floor + 1)  # the rarest slice is a thousandth of five images a drive
    while True:
        drives = draw_drives(seed, 0, drawn)
        drives = drives.take(drives.split == "test")
        if min(_rare_images(drives)) >= floor:
            return drives
        drawn += drawn // 4


def _rare_images(drives: Drives) -> list[int]:
    return [int(drives.frames[rare].sum()) for rare in rare_slices(drives).values()]


def _rare_enough(natural: Drives, images: int, seed: int) -> Drives:
    """Thin `natural` to 22% of `images`. It aims above the floor of a rare slice, because whole drives are kept."""
    floor, start = rare_floor(images), generator(seed, _KEEP, 0).random()
    for spare in count(8, 4):
        keep = _keep_shares(natural, round(0.22 * images), floor + floor // 10 + spare)
        test = _systematic(replace(natural, propensity=keep), start=start)
        if min(_rare_images(test)) >= floor:
            break
    return test


def _keep_shares(drives: Drives, images: int, rare_images: int) -> Floats:
    """Probabilities that keep about `images` images.

    Each rare slice keeps `rare_images`, or as many as the rarest slice holds, up to a fifth of `images`.
    """
    slices, held = rare_slices(drives).values(), _rare_images(drives)
    aim = max(rare_images, min(min(held), images // 5))
    shares = [min(1.0, aim / n) for n in held]
    keep = np.max([np.where(rare, share, 0.0) for rare, share in zip(slices, shares, strict=True)], axis=0)
    common = keep == 0
    left = max(images - float(keep @ drives.frames), 0.05 * images)
    return np.where(common, min(1.0, left / int(drives.frames[common].sum())), keep)


def _systematic(drives: Drives, *, start: float) -> Drives:
    """Systematic sampling (Madow 1949): each drive is kept with exactly its propensity; counts hardly vary.

    The drives, sorted by propensity and number of frames, are intervals as long as their propensity, end to end. A
    drive is kept if one of the points `start`, `start` + 1, ... (`start` in [0, 1)) falls into its interval.
    """
    order = np.lexsort([drives.number, drives.frames, drives.propensity])
    ends = np.round(np.cumsum(drives.propensity[order]), 9)
    touched = np.diff(np.floor(np.concatenate([[0.0], ends]) + start)) > 0
    return drives.take(np.sort(order[touched]))


def _joined(parts: list[Drives]) -> Drives:
    names = [field.name for field in fields(Drives)]
    return Drives(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
