"""An HTML page of near-duplicates: one row of images per group, with keys and splits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amber.picture_page import PictureRow, write_pictures
from curation.ingestion.leaks import NearDuplicates

__all__ = ["write_sheet"]

ROWS = 200
PICTURES = 8


def write_sheet(found: Sequence[NearDuplicates], samples: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write an HTML file of the first 200 groups, 8 images each; `samples` maps keys to location and split."""
    rows = [_row(part, samples) for part in found[:ROWS]]
    write_pictures(path, f"{len(found):,} groups of near-duplicates", rows)


def _row(part: NearDuplicates, samples: Mapping[str, Mapping[str, Any]]) -> PictureRow:
    shown = [(key, samples[key]) for key in part.keys[:PICTURES]]
    return PictureRow(
        title=f"{len(part.keys)} images{', across splits' if part.across else ''}",
        pictures=[(sample["location"], (key, sample["split"] or "no split")) for key, sample in shown],
    )
