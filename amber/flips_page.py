"""An HTML page of flipped images: what a run broke and what it fixed, task by task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amber.picture_page import PictureRow, write_pictures
from training.judging.flips import Flip

__all__ = ["write_flips"]

PICTURES = 40
"""Pictures of each task, and of each of broken and fixed."""


def write_flips(
    flipped: Sequence[Flip], samples: Mapping[str, Mapping[str, Any]], runs: tuple[str, str], path: Path
) -> None:
    """Write an HTML file of the first 40 broken and the first 40 fixed images of each task.

    `samples` maps keys to locations; `runs` are the ids of the first and the second run.
    """
    kinds = dict.fromkeys((part.task, part.what) for part in flipped)
    rows = [_row([part for part in flipped if (part.task, part.what) == kind], samples) for kind in kinds]
    write_pictures(path, f"{runs[1]} compared with {runs[0]}: {len(flipped):,} flipped images", rows)


def _row(flipped: Sequence[Flip], samples: Mapping[str, Mapping[str, Any]]) -> PictureRow:
    return PictureRow(
        title=f"{flipped[0].task}: {len(flipped):,} {flipped[0].what}",
        pictures=[(samples[part.key]["location"], _lines(part)) for part in flipped[:PICTURES]],
    )


def _lines(part: Flip) -> Sequence[str]:
    predicted = [
        f"{value}" if confidence is None else f"{value} ({confidence:.0%})"
        for value, confidence in zip((part.first, part.second), part.confidence, strict=True)
    ]
    return part.key, f"label {part.truth}", f"first {predicted[0]}", f"second {predicted[1]}"
