"""Samples, attributes, labels and held-back labels of the drives."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.arrays import Bools, Floats
from curation.catalog.event_tables import BOX, LABELS, as_labels
from curation.synthetic.drives import LABEL_STREAM, LONGEST, Drives, generator, speed_at
from curation.synthetic.placement import boxes_of

__all__ = ["Described", "describe", "label_table", "names_of", "path_of", "sample_table"]


_TASKS = ("light_present", "light_color", "pedestrian", "car", "stop_sign", "bicycle", "speed", "objects")
_NOISY, _FLIPPED = "bicycle", 0.08


class Described(NamedTuple):
    """Samples and labels of drives, with the columns of `curation.ingestion.readers.content.Content`."""

    samples: pa.Table
    labels: pa.Table
    held_back: pa.Table


def describe(drives: Drives, folder: Path, seed: int) -> Described:
    """Samples, labels and held-back truth of `drives` whose images are, or will be, in `folder`."""
    drive = np.repeat(np.arange(len(drives)), drives.frames)
    frame = np.concatenate([np.arange(count) for count in drives.frames])
    samples = sample_table(drives, drive, frame, folder.resolve(), seed)
    keys = samples["key"].combine_chunks()
    known, wrong = _vendor_labelled(drives, drive, frame, seed)
    train = drives.split[drive] == "train"
    labels, held_back = [], []
    for task in _TASKS:
        truth = _truth(task, drives, drive, frame)
        flip = wrong if task == _NOISY else None
        labels.append(label_table(task, keys, truth, ~train, "truth"))
        labels.append(label_table(task, keys, truth, train & known[task], "vendor", flip=flip))
        held_back.append(label_table(task, keys, truth, train & ~known[task], "oracle"))
    return Described(samples=samples, labels=pa.concat_tables(labels), held_back=pa.concat_tables(held_back))


def names_of(drives: Drives, seed: int) -> list[str]:
    """Names of drives: SEED-NUMBER."""
    return [f"{seed}-{number:06d}" for number in drives.number]


def sample_table(
    drives: Drives,
    drive: npt.NDArray[np.int64],
    frame: npt.NDArray[np.int64],
    folder: Path,
    seed: int,
    *,
    dataset: str = "streets",
) -> pa.Table:
    """The samples at (`drive`, `frame`), as rows of `drives` and numbers of frames, a tenth of a second apart."""
    names = names_of(drives, seed)
    keys = pa.array([f"{dataset}/{names[d]}-{f:02d}" for d, f in zip(drive, frame, strict=True)])
    group = pa.array([f"{dataset}/{names[d]}" for d in drive])
    where = [str(folder / path_of(names[d], f)) for d, f in zip(drive, frame, strict=True)]
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
    """Which samples the vendor labelled, by task, and where it errs in the noisy task: bool [samples] each."""
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
        generator(seed, LABEL_STREAM, int(number) * (LONGEST + 1) * columns).random((LONGEST + 1, columns))
        for number in drives.number
    ]
    stacked = np.stack(rows)
    return stacked[:, 0], stacked[:, 1:]


def _truth(
    task: str, drives: Drives, drive: npt.NDArray[np.int64], frame: npt.NDArray[np.int64]
) -> npt.NDArray[Any] | list[list[dict[str, object]]]:
    """The true values of a task: bool, str or float [samples], or a list of boxes for each sample."""
    if task == "objects":
        return [boxes_of(drives, int(d), int(f)) for d, f in zip(drive, frame, strict=True)]
    if task == "speed":
        return speed_at(drives.speed[drive], drives.gain[drive], frame)
    facts: npt.NDArray[Any] = drives.light_color != "none" if task == "light_present" else getattr(drives, task)
    return facts[drive]


def label_table(
    task: str,
    keys: pa.Array,
    truth: npt.NDArray[Any] | list[list[dict[str, object]]],
    chosen: Bools,
    annotator: str,
    *,
    flip: Bools | None = None,
) -> pa.Table:
    """Labels of the `chosen` samples; binary labels are negated where `flip` is true."""
    where = np.flatnonzero(chosen)
    text, number, boxes = (pa.nulls(len(where), LABELS.field(name).type) for name in ("text", "number", "boxes"))
    if isinstance(truth, list):
        boxes = pa.array([truth[i] for i in where], pa.list_(BOX))
    elif truth.dtype == np.bool_:
        value = truth if flip is None else truth ^ flip
        text = pa.array(np.where(value[where], "true", "false"), pa.string())
    elif truth.dtype == np.float64:
        number = pa.array(truth[where])
    else:
        text = pa.array(truth[where], pa.string())
    constant = {"task": task, "state": "known", "annotator": annotator}
    columns = {"key": keys.take(pa.array(where)), "text": text, "number": number, "boxes": boxes}
    columns |= {name: pa.repeat(word, len(where)) for name, word in constant.items()}
    return as_labels(pa.table(columns))


def path_of(name: str, frame: int) -> str:
    """Path of a frame, relative to the folder of the data set."""
    return f"images/{name}/{frame:02d}.jpg"
