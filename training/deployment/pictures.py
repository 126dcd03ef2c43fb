"""A page of predicted images: those least like the training images, then each task class by class."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from curation.arrays import Ints
from curation.errors import BadInput
from curation.files.locations import read_bytes
from curation.images.decoding import load_rgb
from curation.images.thumbnails import data_uri, shrunk
from training.deployment.prediction import Predicted
from training.deployment.unlikeness import UNLIKE
from training.report.formatting import number_text
from training.report.page import write_page

__all__ = ["write_pictures"]

PICTURES = 12
UNLIKE_PICTURES = 24
LARGEST = 1200
"""Pictures of the page at most: tasks and classes that come later have none."""

SURE = 0.5
"""The score from which on a box counts."""

NAMED = 3
"""Tasks whose predictions stand under the pictures least like the training images."""

Row = Mapping[str, Any]
View = dict[str, Any]


def write_pictures(predicted: Predicted, run: str, path: Path) -> Path:
    """Write one self-contained HTML file with pictures of predicted images; returns `path`.

    Of each class it has the 12 with the least confidence, of a number 12 from the smallest to the largest, of boxes 12
    with the most.
    """
    thumbnails: dict[str, str] = {}
    view: View = {
        "title": "Amber predictions", "number": predicted.images, "run": run, "unlike": predicted.unlike_text,
        "unreadable": [vars(part) for part in predicted.unreadable],
        "sections": [
            section for section in (_unlike(predicted.table, thumbnails), *_tasks(predicted.table, thumbnails))
            if section["sheets"]
        ],
    }  # fmt: skip
    write_page(path, "predictions.html", view)
    return path


def _unlike(table: pa.Table, thumbnails: dict[str, str]) -> View:
    """The images that are the farthest from the training images."""
    names = pc.unique(table["task"]).to_pylist()[:NAMED]
    parts = [table.filter(pc.equal(table["task"], name)) for name in names]  # each in the order of keys
    order = np.argsort(-parts[0]["distance"].to_numpy(), kind="stable")[:UNLIKE_PICTURES]
    rows = [part.take(pa.array(order)).to_pylist() for part in parts]
    pictures = [
        _picture(each[0], [("rank", _rank(each[0]))] + [(row["task"], _answer(row)) for row in each], thumbnails)
        for each in zip(*rows, strict=True)
    ]
    text = (
        "The farthest from the training images first. The rank is the part of held-out training images that are nearer "
        f"to the others; about 5% of images of the same kind are above {UNLIKE:g}."
    )
    return {"title": "Least like the training images", "text": text, "sheets": [_sheet("", "", pictures)]}


def _tasks(table: pa.Table, thumbnails: dict[str, str]) -> Iterator[View]:
    for name in pc.unique(table["task"]).to_pylist():
        mine = table.filter(pc.equal(table["task"], name))
        if _boxed(mine):
            order = np.argsort([-len(boxes) for boxes in _sure(mine)], kind="stable")
            text = f"The most boxes with a score of at least {SURE:g} first."
            sheets = [_sheet("", "", _pictures(mine, np.asarray(order[:PICTURES], np.int64), thumbnails))]
        elif mine["class"].null_count == len(mine):
            chosen = _spread(mine)
            text = "From the smallest number to the largest."
            sheets = [_sheet("", "", _pictures(mine, chosen, thumbnails))]
        else:
            text = "The least confident of each predicted class first."
            sheets = list(_classes(mine, thumbnails))
        yield {"title": name, "text": text, "sheets": [sheet for sheet in sheets if sheet["pictures"]]}


def _classes(mine: pa.Table, thumbnails: dict[str, str]) -> Iterator[View]:
    counts = {part["values"]: part["counts"] for part in pc.value_counts(mine["class"]).to_pylist()}
    for name, number in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        here = mine.filter(pc.equal(mine["class"], name)).sort_by([("confidence", "ascending"), ("key", "ascending")])
        note = f"predicted for {number:,} image{'s' * (number != 1)}"
        yield _sheet(name, note, _pictures(here, np.arange(min(PICTURES, number)), thumbnails))


def _spread(mine: pa.Table) -> Ints:
    """Rows evenly over the order of their numbers."""
    order = np.argsort(mine["number"].to_numpy(), kind="stable")
    return np.asarray(order[np.unique(np.linspace(0, len(order) - 1, PICTURES).round().astype(np.int64))], np.int64)


def _pictures(rows: pa.Table, chosen: Ints, thumbnails: dict[str, str]) -> list[View]:
    if len(thumbnails) >= LARGEST:
        return []
    return [
        _picture(row, [("predicted", _answer(row)), ("rank", _rank(row))], thumbnails)
        for row in rows.take(pa.array(chosen)).to_pylist()
    ]


def _picture(row: Row, facts: Sequence[tuple[str, str]], thumbnails: dict[str, str]) -> View:
    location = row["location"]
    if location not in thumbnails:
        try:
            thumbnails[location] = data_uri(shrunk(Image.fromarray(load_rgb(read_bytes(location)))))
        except BadInput:  # it has changed since it was predicted
            thumbnails[location] = ""
    return {"key": row["key"], "facts": facts, "image": thumbnails[location]}


def _sheet(title: str, note: str, pictures: list[View]) -> View:
    return {"title": title, "note": note, "pictures": pictures}


def _boxed(mine: pa.Table) -> bool:
    """Whether the rows of a task are boxes."""
    return "boxes" in mine.column_names and mine["boxes"].null_count < len(mine)


def _sure(mine: pa.Table) -> list[list[Row]]:
    return [[box for box in boxes if box["score"] >= SURE] for boxes in mine["boxes"].to_pylist()]


def _answer(row: Row) -> str:
    if row.get("boxes") is not None:
        number = sum(box["score"] >= SURE for box in row["boxes"])
        return f"{number} box{'es' * (number != 1)}"
    if row["class"] is None:
        return number_text(row["number"])
    return f"{row['class']} {row['confidence']:.0%}"


def _rank(row: Row) -> str:
    return "-" if np.isnan(row["rank"]) else f"{row['rank']:.0%}"
