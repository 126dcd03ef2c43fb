"""Samples, labels and held-back labels of scenes with signs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.arrays import Bools
from curation.synthetic.drives import Drives, speed_at
from curation.synthetic.labels import Described, label_table, sample_table
from curation.synthetic.traffic import NUMBERS, numbers_of, traffic_of

__all__ = ["describe_signs"]

_DATASET: Final = "street_signs"
_SHARES: Final = {"signs": 0.5, "road_users": 0.5, "speed": 0.35}
"""Parts of the train drives (boxes) or images (speed) that the vendor labels."""
_ATTRIBUTE_SHARE: Final = 0.6
"""Part of the vendor's drives with boxes in which it also says what each box is."""


def describe_signs(drives: Drives, folder: Path, seed: int) -> Described:
    """Samples, labels and held-back truth of `drives` whose images are, or will be, in `folder`.

    Boxes of `signs` have the attribute `sign_kind`, those of `road_users` the attribute `moving` ("true" or "false").
    """
    drive = np.repeat(np.arange(len(drives)), drives.frames)
    frame = np.concatenate([np.arange(count) for count in drives.frames])
    samples = sample_table(drives, drive, frame, folder.resolve(), seed, dataset=_DATASET)
    keys, train = samples["key"].combine_chunks(), drives.split[drive] == "train"
    numbers = np.array([numbers_of(int(number), seed)[NUMBERS:] for number in drives.number])[drive]
    truths = _truths(drives, drive, frame, seed)
    labels, held_back = [], []
    for code, (task, truth) in enumerate(truths.items()):
        vendor, u = truth, numbers[np.arange(len(drive)), 16 + frame]
        if isinstance(truth, list):
            vendor, u = _some_named(truth, numbers[:, 8 + code] < _ATTRIBUTE_SHARE), numbers[:, code]
        known = u < _SHARES[task]
        labels.append(label_table(task, keys, truth, ~train, "truth"))
        labels.append(label_table(task, keys, vendor, train & known, "vendor"))
        held_back.append(label_table(task, keys, truth, train & ~known, "oracle"))
    return Described(samples=samples, labels=pa.concat_tables(labels), held_back=pa.concat_tables(held_back))


def _truths(
    drives: Drives, drive: npt.NDArray[np.int64], frame: npt.NDArray[np.int64], seed: int
) -> dict[str, npt.NDArray[Any] | list[list[dict[str, object]]]]:
    """The true values of each task by sample: boxes with all their attributes, and speeds in km/h."""
    met = [traffic_of(drives, row, seed) for row in range(len(drives))]
    at = list(zip(drive.tolist(), frame.tolist(), strict=True))
    return {
        "signs": [met[d].boxes(f, signs=True) for d, f in at],
        "road_users": [met[d].boxes(f, signs=False) for d, f in at],
        "speed": speed_at(drives.speed[drive], drives.gain[drive], frame),
    }


def _some_named(boxes: Sequence[Sequence[dict[str, object]]], named: Bools) -> list[list[dict[str, object]]]:
    """The boxes of each sample, without attributes where `named` [samples] is false."""
    return [
        [box if keep else {**box, "attributes": None} for box in found]
        for found, keep in zip(boxes, named, strict=True)
    ]
