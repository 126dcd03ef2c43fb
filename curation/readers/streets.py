"""Road scenes that Amber draws itself: small, sparse in labels, with rarities whose truth is known.

A drive is a burst of 3 to 8 near-duplicate frames. Everything about drive d is a function of (seed, d): its
facts come from row d of one counter-based stream, its picture from another, its labels from a third. Which
drives a data set holds is a choice among them (`choose_drives`), what is known of them a table (`describe`).
"""

import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from itertools import count, pairwise
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageDraw, ImageFilter

from curation.errors import BadInput, Damaged
from curation.files import remove_leftovers, whole
from curation.readers.content import BOX, LABELS, Content

__all__ = [
    "HEIGHT",
    "WIDTH",
    "Drives",
    "choose_drives",
    "describe",
    "draw_drives",
    "rare_floor",
    "rare_slices",
    "read_streets",
    "render",
]

WIDTH, HEIGHT = 128, 80
"""Size of every image, in pixels."""

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Value = TypeVar("Value")

_VERSION = 1  # raise it when a pixel or a fact changes: folders of an older version are then refused
_FACTS, _KEEP, _LABELS, _PAINT = range(4)  # streams of one seed
_FACT_COLUMNS, _PLACES, _LONGEST = 24, 40, 8
_LEAST_IMAGES, _MOST_IMAGES = 400, 200_000  # more would draw millions of facts for a few rare drives
_SPLITS = {"train": 0.052, "validation": 0.006, "test": 0.942}  # of all drives; most of the last are not kept
_TASKS = ("light_present", "light_color", "pedestrian", "car", "stop_sign", "bicycle", "speed", "objects")
_NOISY, _FLIPPED = "bicycle", 0.08


@dataclass(frozen=True, kw_only=True)
class Drives:
    """Facts of n drives, an array of length n each; `places` is float64 [n, 40] in [0, 1).

    `speed` (km/h) is that of the first frame and changes by `gain` from frame to frame; `start` counts
    microseconds since 1970; `propensity` in (0, 1] is the probability with which the drive was kept.
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
    places: Floats

    def __len__(self) -> int:
        return len(self.number)

    def take(self, index: npt.NDArray[Any] | slice) -> "Drives":
        """The drives at `index` (positions, a mask or a slice)."""
        return Drives(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def read_streets(
    folder: Path,
    *,
    images: int = 20_000,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Content:
    """Render `images` scenes (400 to 200,000) of `seed` into `folder` and say what is known about them.

    `workers` processes render (default: one a core; 1 stays in this process); neither order nor bytes depend
    on it. `progress` is called with (images done, images in all). What an interrupted call wrote is kept by
    the next one; a complete folder holds `streets.json`, and nothing is rendered again. BadInput if a
    parameter is out of range or not that of the folder; Damaged if `streets.json` cannot be read.
    """
    _check(folder, images, seed, workers)
    manifest = folder / "streets.json"
    asked = {"images": images, "seed": seed, "version": _VERSION}
    done = _is_complete(manifest, asked)
    drives = choose_drives(images, seed)
    if not done:
        _render_all(drives, folder, seed, workers or os.cpu_count() or 1, progress)
        remove_leftovers(folder.glob("images/*/*.part"))
        with whole(manifest) as part:
            part.write_text(json.dumps(asked, indent=1) + "\n")
    return describe(drives, folder, seed)


def draw_drives(seed: int, first: int, count: int) -> Drives:
    """Drives `first` to `first + count - 1` of the natural distribution, functions of seed and number."""
    row = _generator(seed, _FACTS, first * (_FACT_COLUMNS + _PLACES)).random((count, _FACT_COLUMNS + _PLACES))
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
        frames=(3 + next(u) * (_LONGEST - 2)).astype(np.int64),
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
        places=row[:, _FACT_COLUMNS:],
    )


def rare_slices(drives: Drives) -> dict[str, Bools]:
    """Which drives fall into each planted rarity."""
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
    """Least number of test images of each rare slice: 200 of 20,000, not under 40 from 2,000 images on."""
    return max(images // 100, min(40, images // 50))


def choose_drives(images: int, seed: int) -> Drives:
    """The drives of a data set of `images` images in all, train first, then validation, then test.

    A drive's split is drawn with its facts. Train (70%) and validation (8%) are the first drives of theirs, a
    natural draw. Each test drive is kept with a probability that only its rareness decides, its `propensity`.
    """
    test = _rare_enough(_candidates(images, seed), images, seed)
    validation = round(0.08 * images)
    train = images - validation - int(test.frames.sum())
    parts = [_first_images(seed, "train", train), _first_images(seed, "validation", validation), test]
    return _joined(parts)


def describe(drives: Drives, folder: Path, seed: int) -> Content:
    """Samples, labels and held back truth of `drives` whose images lie, or will lie, in `folder`."""
    drive = np.repeat(np.arange(len(drives)), drives.frames)
    frame = np.concatenate([np.arange(count) for count in drives.frames])
    names = _names(drives, seed)
    keys = pa.array([f"streets/{names[d]}-{f:02d}" for d, f in zip(drive, frame, strict=True)])
    samples = _samples(drives, drive, frame, names, keys, folder.resolve())
    known, wrong = _vendor_labelled(drives, drive, frame, seed)
    train = drives.split[drive] == "train"
    labels, held_back = [], []
    for task in _TASKS:
        truth = _truth(task, drives, drive, frame)
        flip = wrong if task == _NOISY else None
        labels.append(_label_table(task, keys, truth, ~train, "truth", flip=None))
        labels.append(_label_table(task, keys, truth, train & known[task], "vendor", flip=flip))
        held_back.append(_label_table(task, keys, truth, train & ~known[task], "oracle", flip=None))
    return Content(samples=samples, labels=pa.concat_tables(labels), held_back=pa.concat_tables(held_back))


def render(drives: Drives, seed: int) -> Iterator[tuple[int, int, Image.Image]]:
    """Draw each frame of `drives`: (position of the drive, frame, RGB image of 128 x 80)."""
    for position in range(len(drives)):
        scene = _scene(drives, position, seed)
        for frame in range(int(drives.frames[position])):
            yield position, frame, _picture(scene, frame)


# Which drives


def _generator(seed: int, stream: int, skip: int) -> np.random.Generator:
    """A generator `skip` numbers (a multiple of 4) into `stream` of `seed`; nothing else enters."""
    bits = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    bits.advance(skip // 4)  # a step of the counter makes four numbers
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
    """The first drives of `split` that make up `images` images; the last one is cut short."""
    asked = 64
    while True:
        drives = draw_drives(seed, 0, asked)
        drives = drives.take(drives.split == split)
        ends = np.cumsum(drives.frames)
        if len(ends) and ends[-1] >= images:
            break
        asked *= 2
    drives = drives.take(slice(int(np.searchsorted(ends, images)) + 1))
    last = drives.frames[-1:] - (ends[len(drives) - 1] - images)
    return replace(drives, frames=np.concatenate([drives.frames[:-1], last]))


def _candidates(images: int, seed: int) -> Drives:
    """Test drives of the natural distribution, of which every rare slice can be kept to its floor."""
    floor = rare_floor(images)
    asked = 250 * (floor + 1)  # the rarest slice is a thousandth of five images a drive
    while True:
        drives = draw_drives(seed, 0, asked)
        drives = drives.take(drives.split == "test")
        if min(_rare_images(drives)) >= floor:
            return drives
        asked += asked // 4


def _rare_images(drives: Drives) -> list[int]:
    return [int(drives.frames[rare].sum()) for rare in rare_slices(drives).values()]


def _rare_enough(natural: Drives, images: int, seed: int) -> Drives:
    """Thin `natural` to 22% of `images`; as whole drives are kept, a rare slice is aimed above its floor."""
    floor, start = rare_floor(images), _generator(seed, _KEEP, 0).random()
    for spare in count(8, 4):
        keep = _keep_shares(natural, round(0.22 * images), floor + floor // 10 + spare)
        test = _systematic(replace(natural, propensity=keep), start=start)
        if min(_rare_images(test)) >= floor:
            break
    return test


def _keep_shares(drives: Drives, images: int, rare_images: int) -> Floats:
    """Probabilities that keep about `images` images.

    Of each rare slice `rare_images` are kept, or as many as the rarest holds, up to a fifth of `images`.
    """
    slices, held = rare_slices(drives).values(), _rare_images(drives)
    aim = max(rare_images, min(min(held), images // 5))
    shares = [min(1.0, aim / n) for n in held]
    keep = np.max([np.where(rare, share, 0.0) for rare, share in zip(slices, shares, strict=True)], axis=0)
    common = keep == 0
    left = max(images - float(keep @ drives.frames), 0.05 * images)
    return np.where(common, min(1.0, left / int(drives.frames[common].sum())), keep)


def _systematic(drives: Drives, *, start: float) -> Drives:
    """Draw each drive with its propensity, exactly, and with hardly any noise in the counts.

    Drives are laid end to end, each as long as its propensity, sorted by it and by their number of frames; a
    comb of step 1, shifted by `start` in [0, 1), keeps those that it touches (Madow 1949).
    """
    order = np.lexsort([drives.number, drives.frames, drives.propensity])
    ends = np.round(np.cumsum(drives.propensity[order]), 9)
    touched = np.diff(np.floor(np.concatenate([[0.0], ends]) + start)) > 0
    return drives.take(np.sort(order[touched]))


def _joined(parts: list[Drives]) -> Drives:
    names = [field.name for field in fields(Drives)]
    return Drives(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


# What is known about them


def _names(drives: Drives, seed: int) -> list[str]:
    return [f"{seed}-{number:06d}" for number in drives.number]


def _samples(
    drives: Drives,
    drive: npt.NDArray[np.int64],
    frame: npt.NDArray[np.int64],
    names: list[str],
    keys: pa.Array,
    folder: Path,
) -> pa.Table:
    group = pa.array([f"streets/{names[d]}" for d in drive])
    where = [str(folder / _path(names[d], f)) for d, f in zip(drive, frame, strict=True)]
    return pa.table(
        {
            "key": keys,
            "location": pa.array(where),
            "group": group,
            "drive": group,
            "captured_at": pa.array(drives.start[drive] + frame * 100_000, pa.timestamp("us", "UTC")),
            "source": pa.repeat("rendered", len(keys)),
            "split": pa.array(drives.split[drive]),
            "time_of_day": pa.array(drives.time_of_day[drive]),
            "weather": pa.array(drives.weather[drive]),
            "camera": pa.array(drives.camera[drive]),
            "propensity": pa.array(drives.propensity[drive]),
        }
    )


def _vendor_labelled(
    drives: Drives, drive: npt.NDArray[np.int64], frame: npt.NDArray[np.int64], seed: int
) -> tuple[dict[str, Bools], Bools]:
    """Which samples the vendor labelled, by task, and where it errs in a noisy one: bool [samples] each."""
    by_drive, by_image = _label_numbers(drives, seed)
    per_image = by_image[drive, frame]
    day, night = drives.time_of_day[drive] == "day", drives.time_of_day[drive] == "night"
    front, clear = drives.camera[drive] == "front", drives.weather[drive] == "clear"
    share: dict[str, Any] = {
        "light_present": 0.20,
        "light_color": np.where(day, 0.16, np.where(night, 0.02, 0.06)),
        "pedestrian": np.where(front, 0.30, 0.08),
        "car": np.where(clear, 0.40, 0.25),
        "stop_sign": 0.15,
        "bicycle": np.where(night, 0.10, 0.35),
        "speed": 0.12,
        "objects": 0.08,
    }
    whole_drives = ("pedestrian", "stop_sign", "objects")
    known = {
        task: (by_drive[drive, code] if task in whole_drives else per_image[:, code]) < share[task]
        for code, task in enumerate(_TASKS)
    }
    return known, per_image[:, len(_TASKS)] < _FLIPPED


def _label_numbers(drives: Drives, seed: int) -> tuple[Floats, Floats]:
    """Uniform numbers of each drive [n, 12] and of each of its frames [n, 8, 12]."""
    columns = 12
    rows = [
        _generator(seed, _LABELS, int(number) * (_LONGEST + 1) * columns).random((_LONGEST + 1, columns))
        for number in drives.number
    ]
    stacked = np.stack(rows)
    return stacked[:, 0], stacked[:, 1:]


def _truth(
    task: str, drives: Drives, drive: npt.NDArray[np.int64], frame: npt.NDArray[np.int64]
) -> npt.NDArray[Any] | list[list[dict[str, object]]]:
    """What is so: bool, str or float [samples], or a list of boxes for each."""
    if task == "objects":
        return [_boxes(drives, int(d), int(f)) for d, f in zip(drive, frame, strict=True)]
    if task == "speed":
        return _speed(drives.speed[drive], drives.gain[drive], frame)
    facts: npt.NDArray[Any] = drives.light_color != "none" if task == "light_present" else getattr(drives, task)
    return facts[drive]


def _speed(first: Floats, gain: Floats, frame: npt.NDArray[np.int64]) -> Floats:
    speed: Floats = np.clip(first + gain * frame, 0, 120)
    return speed.round(1)


def _label_table(
    task: str,
    keys: pa.Array,
    truth: npt.NDArray[Any] | list[list[dict[str, object]]],
    chosen: Bools,
    annotator: str,
    *,
    flip: Bools | None,
) -> pa.Table:
    """Labels of the `chosen` samples; binary ones are negated where `flip`."""
    where = np.flatnonzero(chosen)
    text, number, boxes = (pa.nulls(len(where), LABELS.field(name).type) for name in ("text", "number", "boxes"))
    if isinstance(truth, list):
        boxes = pa.array([truth[i] for i in where], pa.list_(BOX))
    elif truth.dtype == np.bool_:
        said = truth if flip is None else truth ^ flip
        text = pa.array(np.where(said[where], "true", "false"), pa.string())
    elif truth.dtype == np.float64:
        number = pa.array(truth[where])
    else:
        text = pa.array(truth[where], pa.string())
    same = {"task": task, "state": "known", "annotator": annotator}
    columns = {"key": keys.take(pa.array(where)), "text": text, "number": number, "boxes": boxes}
    columns |= {name: pa.repeat(value, len(where)) for name, value in same.items()}
    return pa.table([columns[name] for name in LABELS.names], schema=LABELS)


# Where things stand, in pixels of the image


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A thing at (x, y): its centre, or its foot if it stands on the road; `size`: a height or diameter."""

    x: float
    y: float
    size: float

    def moved(self, frame: int, sway: float) -> "_Place":
        """The same thing a little later: a little nearer, a little aside."""
        zoom = 1 + 0.011 * frame
        x = WIDTH / 2 + (self.x - WIDTH / 2) * zoom + sway * frame
        return _Place(x=min(max(x, 9.0), WIDTH - 9.0), y=self.y + 0.2 * frame, size=self.size * zoom)


def _lights(drives: Drives, position: int, frame: int) -> list[_Place]:
    """Heads of the traffic lights in view, by centre; `size` is the lamp's diameter, at least 4 pixels."""
    u, lights = drives.places[position].tolist(), []
    if drives.light_color[position] != "none":
        for first in (0, 4)[: 1 + int(u[8] < 0.25)]:
            size = 4.2 * 2.3 ** (u[first] ** 1.4) * (1 if first == 0 else 0.8)
            size = max(size, 4.2)
            top = 3 + u[first + 1] * max(0.0, 46 - 4.3 * size)
            place = _Place(x=_slot(u, 0 if first == 0 else 6), y=top + 2.15 * size, size=size)
            lights.append(place.moved(frame, _sway(u)))
    return lights


def _stop_sign(drives: Drives, position: int, frame: int) -> list[_Place]:
    if not drives.stop_sign[position]:
        return []
    u = drives.places[position].tolist()
    size = 11 + 12 * u[9] ** 1.3
    return [_Place(x=_slot(u, 1), y=18 + size / 2 + 14 * u[10], size=size).moved(frame, _sway(u))]


def _slot(u: list[float], thing: int) -> float:
    """Things stand side by side: a permutation of 7 lanes, with some play."""
    lane = sorted(range(7), key=u[20:27].__getitem__)[thing]
    return 12 + 17 * lane + 6 * (u[27 + thing] - 0.5)


def _sway(u: list[float]) -> float:
    return 1.2 * u[11] - 0.6


def _boxes(drives: Drives, position: int, frame: int) -> list[dict[str, object]]:
    heads = [_box("traffic_light", p, 1.7, 4.3) for p in _lights(drives, position, frame)]
    return heads + [_box("stop_sign", p, 1.0, 1.0) for p in _stop_sign(drives, position, frame)]


def _box(name: str, place: _Place, wide: float, high: float) -> dict[str, object]:
    left, right = (np.clip(place.x + side * wide * place.size / 2, 0, WIDTH) for side in (-1, 1))
    top, bottom = (np.clip(place.y + side * high * place.size / 2, 0, HEIGHT) for side in (-1, 1))
    x, y, w, h = (round(float(side), 2) for side in (left, top, right - left, bottom - top))
    return {"class": name, "x": x, "y": y, "w": w, "h": h}


# How a scene is painted: twice as large, background once a drive, things once a frame

_SCALE, _MARGIN = 2, 16
_HORIZON = {"front": 42, "left": 39, "right": 45}
_AMBIENT = {"day": (1.0, 1.0, 1.0), "dusk": (0.70, 0.55, 0.52), "night": (0.17, 0.18, 0.25)}
_TINT = {"front": (1.0, 1.0, 1.0), "left": (0.93, 0.98, 1.06), "right": (1.06, 1.0, 0.92)}
_GLOW = {"day": 0.25, "dusk": 0.8, "night": 1.2}
_LIT = {"red": (255, 45, 30), "yellow": (255, 205, 30), "green": (40, 245, 130)}
_UNLIT = {"red": (62, 22, 20), "yellow": (60, 52, 18), "green": (18, 52, 34)}

Color = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class _Easel:
    """Two sheets: what reflects light, and what gives it. All coordinates are pixels of the final image."""

    sheet: ImageDraw.ImageDraw
    shine: ImageDraw.ImageDraw

    def box(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        self.sheet.rectangle(_scaled(left, top, right, bottom), fill=color)

    def disc(self, x: float, y: float, radius: float, color: Color) -> None:
        self.sheet.ellipse(_scaled(x - radius, y - radius, x + radius, y + radius), fill=color)

    def ring(self, x: float, y: float, radius: float, color: Color, width: int = 2) -> None:
        corners = _scaled(x - radius, y - radius, x + radius, y + radius)
        self.sheet.ellipse(corners, outline=color, width=width)

    def line(self, points: list[tuple[float, float]], color: Color, width: float) -> None:
        flat = [side for point in points for side in point]
        self.sheet.line(_scaled(*flat), fill=color, width=max(1, round(width * _SCALE)))

    def shape(self, points: list[tuple[float, float]], color: Color) -> None:
        self.sheet.polygon(_scaled(*[side for point in points for side in point]), fill=color)

    def lamp(self, x: float, y: float, wide: float, high: float, color: Color) -> None:
        """An ellipse that shines."""
        corners = _scaled(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
        self.sheet.ellipse(corners, fill=(0, 0, 0))
        self.shine.ellipse(corners, fill=color)


def _scaled(*coordinates: float) -> list[float]:
    return [_SCALE * side for side in coordinates]


@dataclass(frozen=True, kw_only=True)
class _Air:
    """What lies between the lens and the street."""

    time: str
    weather: str
    camera: str


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """Drive `position` of `drives`, ready to be photographed.

    `sums` are running sums of its background along x, float32 [80, 161, 3]; `numbers` decide its looks,
    `grain` makes what differs from frame to frame.
    """

    drives: Drives
    position: int
    air: _Air
    sums: Pixels
    numbers: list[float]
    grain: np.random.Generator


def _scene(drives: Drives, position: int, seed: int) -> _Scene:
    grain = _generator(seed, _PAINT, int(drives.number[position]) << 20)
    numbers = grain.random(512).tolist()
    time, weather, camera = (str(values[position]) for values in (drives.time_of_day, drives.weather, drives.camera))
    air = _Air(time=time, weather=weather, camera=camera)
    sums = _running_sums(_background(air, iter(numbers[16:])))
    return _Scene(drives=drives, position=position, air=air, sums=sums, numbers=numbers, grain=grain)


def _picture(scene: _Scene, frame: int) -> Image.Image:
    drives, position, air = scene.drives, scene.position, scene.air
    speed = float(_speed(drives.speed[position], drives.gain[position], np.array(frame)))
    smear = 1 + speed / 120 * 17
    street = _window(scene.sums, _MARGIN + 4 * math.sin(frame + scene.numbers[0] * 6), smear)
    things, shine = _foreground(scene, frame, 1 + 0.22 * (smear - 1))
    opaque = things[..., 3:] / np.float32(255)
    lit = _fogged(things[..., :3] * _thing_light(air.time), opaque, air, depth=0.42)
    canvas = _rained(street * (1 - opaque) + lit + shine, air, scene.grain) * _lens(air.camera)
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


def _background(air: _Air, u: Iterator[float]) -> Pixels:
    """Sky, buildings, trees, road and lamp posts in the light of the hour, [80, 160, 3] in 0 to 255."""
    size = ((WIDTH + 2 * _MARGIN) * _SCALE, HEIGHT * _SCALE)
    sheet, shine = Image.new("RGB", size), Image.new("RGB", size)
    easel = _Easel(sheet=ImageDraw.Draw(sheet), shine=ImageDraw.Draw(shine))
    horizon, dark = _HORIZON[air.camera], air.time != "day"
    _paint_sky(easel, horizon, air)
    _paint_buildings(easel, u, horizon, dark=dark)
    _paint_road(easel, u, horizon)
    _paint_trees(easel, u, horizon)
    _paint_posts(easel, u, horizon, dark=dark)
    wet = 0.8 if air.weather == "rain" else 1.0
    lit = np.asarray(sheet.reduce(_SCALE), np.float32) * _street_light(air.time, horizon) * np.float32(wet)
    return _fogged(lit, _OPAQUE, air, depth=0.62) + _shining(shine.reduce(_SCALE), air)


def _paint_sky(easel: _Easel, horizon: int, air: _Air) -> None:
    top: Color = (105, 165, 235) if air.weather == "clear" else (165, 175, 185)
    low: Color = (255, 190, 130) if air.time == "dusk" else (205, 220, 235)
    right = WIDTH + 2 * _MARGIN
    for y in range(0, horizon, 3):
        part = y / horizon
        color = tuple(round(a + (b - a) * part) for a, b in zip(top, low, strict=True))
        easel.box(0, y, right, y + 3, (color[0], color[1], color[2]))


def _paint_buildings(easel: _Easel, u: Iterator[float], horizon: int, *, dark: bool) -> None:
    x = -4.0
    while x < WIDTH + 2 * _MARGIN:
        wide, high = 12 + 16 * next(u), 10 + 22 * next(u)
        shade, warm = 70 + 100 * next(u), next(u)
        wall = (round(shade + 25 * warm), round(shade), round(shade - 20 * warm))
        easel.box(x, horizon - high, x + wide - 1, horizon + 2, wall)
        _paint_windows(easel, u, x, horizon - high, wide, high, dark=dark)
        if next(u) < 0.22:  # a shop's sign, in the colours of a traffic light
            color = list(_LIT.values())[int(3 * next(u))]
            left, top = x + 2 + next(u) * 4, horizon - 6
            easel.box(left, top, left + 6, top + 2.5, color)
            if dark:
                easel.shine.rectangle(_scaled(left, top, left + 6, top + 2.5), fill=_dimmed(color, 0.55))
        x += wide


def _paint_windows(
    easel: _Easel, u: Iterator[float], x: float, top: float, wide: float, high: float, *, dark: bool
) -> None:
    lit = int(next(u) * 2**20)
    for row in range(int(high // 6)):
        for column in range(int(wide // 5)):
            left, upper = x + 1.5 + 5 * column, top + 2 + 6 * row
            easel.box(left, upper, left + 2.2, upper + 3, (45, 52, 64))
            if dark and lit >> (4 * row + column) & 1:
                easel.shine.rectangle(_scaled(left, upper, left + 2.2, upper + 3), fill=(120, 95, 48))


def _paint_road(easel: _Easel, u: Iterator[float], horizon: int) -> None:
    right = WIDTH + 2 * _MARGIN
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


def _paint_trees(easel: _Easel, u: Iterator[float], horizon: int) -> None:
    for _ in range(int(5 * next(u))):
        x, size, tone = (WIDTH + 2 * _MARGIN) * next(u), 5 + 6 * next(u), next(u)
        green = (round(30 + 40 * tone), round(85 + 60 * tone), round(35 + 25 * tone))
        easel.box(x - 1, horizon - 6, x + 1, horizon + 6, (74, 56, 40))
        easel.disc(x, horizon - 6 - size, size, green)
        easel.disc(x - size / 2, horizon - 4 - size / 2, size * 0.7, green)


def _paint_posts(easel: _Easel, u: Iterator[float], horizon: int, *, dark: bool) -> None:
    for _ in range(int(4 * next(u))):
        x, high, arm = (WIDTH + 2 * _MARGIN) * next(u), 22 + 12 * next(u), 5 - 10 * next(u)
        easel.line([(x, horizon + 7), (x, horizon - high), (x + arm, horizon - high)], (80, 84, 88), 1)
        easel.box(x + arm - 2, horizon - high - 1, x + arm + 2, horizon - high + 1, (226, 200, 110))
        if dark:
            easel.lamp(x + arm, horizon - high + 0.5, 4.5, 2.5, (255, 190, 80))


def _foreground(scene: _Scene, frame: int, smear: float) -> tuple[Pixels, Pixels]:
    """Things in front, premultiplied RGBA [80, 128, 4], and the light they give, [80, 128, 3]."""
    size = (WIDTH * _SCALE, HEIGHT * _SCALE)
    sheet, shine = Image.new("RGBA", size), Image.new("RGB", size)
    easel = _Easel(sheet=ImageDraw.Draw(sheet), shine=ImageDraw.Draw(shine))
    _paint_things(easel, scene, frame)
    things = _smeared(np.asarray(sheet.convert("RGBa").reduce(_SCALE), np.float32), smear)
    return things, _smeared(_shining(shine.reduce(_SCALE), scene.air), smear)


def _smeared(sheet: Pixels, smear: float) -> Pixels:
    if smear < 1.2:
        return sheet
    margin = 4
    return _window(_running_sums(np.pad(sheet, ((0, 0), (margin, margin), (0, 0)))), margin, smear)


def _paint_things(easel: _Easel, scene: _Scene, frame: int) -> None:
    drives, position, looks = scene.drives, scene.position, iter(scene.numbers[400:])
    u = drives.places[position].tolist()
    sway = _sway(u)
    if u[12] < 0.16:
        place = _Place(x=_slot(u, 5), y=26 + 16 * u[13], size=8 + 8 * u[14])
        _paint_round_sign(easel, place.moved(frame, sway), next(looks))
    for place in _stop_sign(drives, position, frame):
        _paint_stop_sign(easel, place)
    if drives.car[position]:
        place = _Place(x=_slot(u, 2), y=56 + 18 * u[15], size=11 + 14 * u[16])
        _paint_car(easel, place.moved(frame, sway), looks, dark=scene.air.time != "day")
    for place in _lights(drives, position, frame):
        _paint_light(easel, place, str(drives.light_color[position]))
    if drives.bicycle[position]:
        place = _Place(x=_slot(u, 3), y=61 + 15 * u[17], size=21 + 15 * u[18])
        _paint_bicycle(easel, place.moved(frame, 2 * sway), looks)
    if drives.pedestrian[position]:
        place = _Place(x=_slot(u, 4), y=61 + 16 * u[19], size=25 + 20 * u[34])
        _paint_pedestrian(easel, place.moved(frame, 2 * sway), looks, frame)


def _paint_light(easel: _Easel, place: _Place, lit: str) -> None:
    x, y, d = place.x, place.y, place.size
    easel.box(x - 0.8, y, x + 0.8, 58 + d, (70, 72, 74))
    easel.box(x - 0.85 * d, y - 2.15 * d, x + 0.85 * d, y + 2.15 * d, (34, 34, 36))
    for k, color in enumerate(_LIT):
        middle = y + (k - 1) * 1.3 * d
        easel.disc(x, middle, d / 2, _UNLIT[color])
        if color == lit:
            easel.lamp(x, middle, d, d, _LIT[color])


def _paint_stop_sign(easel: _Easel, place: _Place) -> None:
    x, y, size = place.x, place.y, place.size
    easel.box(x - 0.8, y, x + 0.8, 60 + size / 3, (120, 122, 124))
    for share, color in ((1.0, (238, 238, 238)), (0.88, (200, 22, 34))):
        radius = share * size / 2 / math.cos(math.pi / 8)
        turns = [math.pi / 8 + k * math.pi / 4 for k in range(8)]
        easel.shape([(x + radius * math.cos(t), y + radius * math.sin(t)) for t in turns], color)
    for k in range(4):
        left = x + (k - 2) * size * 0.18 + size * 0.03
        easel.box(left, y - size * 0.13, left + size * 0.1, y + size * 0.13, (245, 245, 245))


def _paint_round_sign(easel: _Easel, place: _Place, kind: float) -> None:
    x, y, size = place.x, place.y, place.size
    easel.box(x - 0.7, y, x + 0.7, 60, (120, 122, 124))
    easel.disc(x, y, size / 2, (205, 30, 40))
    if kind < 0.5:
        easel.disc(x, y, size * 0.34, (240, 240, 240))
        easel.box(x - size * 0.12, y - size * 0.15, x + size * 0.12, y + size * 0.15, (40, 40, 40))
    else:
        easel.box(x - size * 0.36, y - size * 0.09, x + size * 0.36, y + size * 0.09, (240, 240, 240))


def _paint_car(easel: _Easel, place: _Place, u: Iterator[float], *, dark: bool) -> None:
    x, y, h = place.x, place.y, place.size
    wide, color = 1.5 * h, _paint_color(u)
    brakes = next(u) < 0.5
    easel.box(x - wide * 0.42, y - h * 0.25, x - wide * 0.26, y, (18, 18, 18))
    easel.box(x + wide * 0.26, y - h * 0.25, x + wide * 0.42, y, (18, 18, 18))
    roof = [
        (x - wide * 0.30, y - h),
        (x + wide * 0.30, y - h),
        (x + wide * 0.42, y - h * 0.55),
        (x - wide * 0.42, y - h * 0.55),
    ]
    easel.shape(roof, color)
    glass = [
        (x - wide * 0.25, y - h * 0.92),
        (x + wide * 0.25, y - h * 0.92),
        (x + wide * 0.33, y - h * 0.6),
        (x - wide * 0.33, y - h * 0.6),
    ]
    easel.shape(glass, (46, 58, 70))
    easel.box(x - wide / 2, y - h * 0.58, x + wide / 2, y - h * 0.14, color)
    easel.box(x - wide * 0.16, y - h * 0.36, x + wide * 0.16, y - h * 0.22, (225, 225, 215))
    for side in (-1, 1):
        lamp = x + side * wide * 0.40
        easel.box(lamp - h * 0.1, y - h * 0.52, lamp + h * 0.1, y - h * 0.34, (150, 20, 24))
        if dark or brakes:
            glare = _dimmed((255, 30, 24), 0.9 if brakes else 0.55)
            easel.lamp(lamp, y - h * 0.43, h * 0.22, h * 0.2, glare)


def _paint_bicycle(easel: _Easel, place: _Place, u: Iterator[float]) -> None:
    x, y, h = place.x, place.y, place.size
    frame, shirt, wheel = _paint_color(u), _paint_color(u), h * 0.23
    facing = 1 if next(u) < 0.5 else -1
    rear, front = x - facing * h * 0.32, x + facing * h * 0.32
    hub = y - wheel
    for middle in (rear, front):
        easel.ring(middle, hub, wheel, (22, 22, 24))
    saddle, bars, pedals = (
        (x - facing * h * 0.13, y - h * 0.5),
        (x + facing * h * 0.22, y - h * 0.56),
        (x, hub),
    )
    for path in ([(rear, hub), saddle, pedals, (rear, hub)], [pedals, bars, (front, hub)], [saddle, bars]):
        easel.line(path, frame, 1)
    shoulder = (x + facing * h * 0.04, y - h * 0.80)
    easel.line([saddle, shoulder], shirt, h * 0.15)
    easel.line([shoulder, bars], (205, 160, 130), h * 0.05)
    easel.line([saddle, (x + facing * h * 0.1, y - h * 0.34), pedals], (40, 42, 60), h * 0.07)
    easel.disc(shoulder[0] + facing * h * 0.05, y - h * 0.91, h * 0.085, (210, 165, 135))


def _paint_pedestrian(easel: _Easel, place: _Place, u: Iterator[float], frame: int) -> None:
    x, y, h = place.x, place.y, place.size
    coat, trousers, skin = _paint_color(u), _dimmed(_paint_color(u), 0.5), (214, 168, 138)
    stride = h * 0.12 * math.sin(6 * next(u) + 0.5 * frame)
    for side in (-1, 1):
        easel.line([(x, y - h * 0.48), (x + side * (h * 0.05 + stride / 2), y)], trousers, h * 0.09)
        easel.line(
            [(x + side * h * 0.11, y - h * 0.78), (x + side * (h * 0.14 + stride / 2), y - h * 0.46)],
            coat,
            h * 0.06,
        )
    easel.box(x - h * 0.11, y - h * 0.82, x + h * 0.11, y - h * 0.44, coat)
    easel.disc(x, y - h * 0.91, h * 0.085, skin)


_PAINTS: tuple[Color, ...] = (
    (186, 34, 36), (36, 76, 160), (222, 222, 220), (40, 42, 46),
    (128, 132, 138), (212, 160, 40), (40, 110, 70), (150, 80, 150),
)  # fmt: skip


def _paint_color(u: Iterator[float]) -> Color:
    return _PAINTS[int(next(u) * len(_PAINTS))]


def _dimmed(color: Color, share: float) -> Color:
    return round(color[0] * share), round(color[1] * share), round(color[2] * share)


# Light, weather and lens


_OPAQUE = np.ones((HEIGHT, 1, 1), np.float32)


@cache
def _ambient(time: str) -> Pixels:
    return np.array(_AMBIENT[time], np.float32)


@cache
def _street_light(time: str, horizon: int) -> Pixels:
    """What falls on the street, [80, 1, 3]: the light of the hour and, at night, of one's own head lamps."""
    near = np.clip((np.arange(HEIGHT) - horizon) / (HEIGHT - horizon), 0, 1)[:, None, None]
    lamps = 0.38 if time == "night" else 0.0
    return _ambient(time) + (lamps * near**0.5).astype(np.float32)


@cache
def _thing_light(time: str) -> Pixels:
    return _ambient(time) + np.float32(0.30 if time == "night" else 0)


def _shining(shine: Image.Image, air: _Air) -> Pixels:
    """Lamps and the halo around them, wider in fog."""
    lamps = np.asarray(shine, np.float32)
    if shine.getbbox() is None:
        return lamps
    fog = air.weather == "fog"
    halo = np.asarray(shine.filter(ImageFilter.GaussianBlur(4 if fog else 2.5)), np.float32)
    return lamps * np.float32(0.85 if fog else 1) + halo * np.float32(_GLOW[air.time] + 0.3 * fog)


def _fogged(lit: Pixels, opaque: Pixels, air: _Air, *, depth: float) -> Pixels:
    if air.weather != "fog":
        return lit
    veil = np.array((190, 195, 200), np.float32) * _ambient(air.time) * np.float32(depth)
    return lit * np.float32(1 - depth) + opaque * veil


def _rained(canvas: Pixels, air: _Air, grain: np.random.Generator) -> Pixels:
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
def _lens(camera: str) -> Pixels:
    """Tint and vignette of a camera, [80, 128, 3]; those at the sides are darker towards the car."""
    x, y = np.linspace(-1, 1, WIDTH)[None, :, None], np.linspace(-1, 1, HEIGHT)[:, None, None]
    middle = {"front": 0.0, "left": 0.25, "right": -0.25}[camera]
    lens = 1 - 0.16 * ((x - middle) ** 2 + 0.6 * y**2)
    tinted: Pixels = (lens * np.array(_TINT[camera])).astype(np.float32)
    return tinted


# Files


def _check(folder: Path, images: int, seed: int, workers: int | None) -> None:
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder}: streets are rendered into a folder, and this is a file; choose another path")
    if not _LEAST_IMAGES <= images <= _MOST_IMAGES:
        raise BadInput(f"images = {images}: must be {_LEAST_IMAGES} to {_MOST_IMAGES}; choose a number between")
    if not 0 <= seed < 2**63:
        raise BadInput(f"seed = {seed}: must be 0 to 2**63 - 1; choose another")
    if workers is not None and workers < 1:
        raise BadInput(f"workers = {workers}: must be at least 1; leave it out for one a core")


def _is_complete(manifest: Path, asked: dict[str, int]) -> bool:
    try:
        found = json.loads(manifest.read_text())
    except FileNotFoundError:
        return False
    except ValueError as error:
        raise Damaged(f"{manifest}: not valid JSON; delete it, and only what is missing is rendered") from error
    if found != asked:
        raise BadInput(
            f"{manifest.parent}: holds streets of {found}, not of {asked}; choose another folder or delete this"
        )
    return True


def _path(name: str, frame: int) -> str:
    return f"images/{name}/{frame:02d}.jpg"


def _render_all(
    drives: Drives, folder: Path, seed: int, workers: int, progress: Callable[[int, int], None] | None
) -> None:
    chunks = [drives.take(slice(a, b)) for a, b in pairwise([*range(0, len(drives), 16), len(drives)])]
    total, done = int(drives.frames.sum()), 0
    for rendered in _mapped(partial(_render_chunk, folder, seed), chunks, min(workers, len(chunks))):
        done += rendered
        if progress is not None:
            progress(done, total)


def _mapped(work: Callable[[Drives], Value], chunks: list[Drives], workers: int) -> Iterator[Value]:
    if workers == 1:
        yield from map(work, chunks)
        return
    # spawn: a fork of a process that has threads (DuckDB, torch) may hang
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_with_parent)
    try:
        yield from pool.map(work, chunks)
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_with_parent() -> None:
    """In a worker: Ctrl-C is the parent's business, and a killed parent leaves no orphan."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _render_chunk(folder: Path, seed: int, drives: Drives) -> int:
    names = _names(drives, seed)
    missing = [i for i, name in enumerate(names) if not _has_all(folder, name, int(drives.frames[i]))]
    for position, frame, image in render(drives.take(np.array(missing, np.int64)), seed):
        path = folder / _path(names[missing[position]], frame)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_image(path, image)
    return int(drives.frames.sum())


def _has_all(folder: Path, name: str, frames: int) -> bool:
    return all((folder / _path(name, frame)).is_file() for frame in range(frames))


def _write_image(path: Path, image: Image.Image) -> None:
    with whole(path) as part:
        image.save(part, "JPEG", quality=90, subsampling=0)  # a lamp of 4 pixels keeps its colour
