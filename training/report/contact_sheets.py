"""The worst slices, as contact sheets of pictures."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from curation.images.decoding import load_rgb
from samplers.pack.pack import Pack
from training.report.formatting import doubt_of, error_of, number_text
from training.report.rounds import entry_view
from training.report.run_results import Judged

__all__ = ["groups_first", "worst_view"]

Row = Mapping[str, Any]
View = dict[str, Any]
Ints = npt.NDArray[np.int64]


SHEETS = 6
PICTURES = 12
THUMBNAIL = 160
BOX_COLORS = ("#f0e442", "#56b4e9", "#cc79a7", "#e69f00", "#ffffff", "#d55e00")


def worst_view(judged: Judged, pack: Pack) -> View:
    """Contact sheets of the worst (task, slice) cells: two of each task before a third, none that shows nothing new."""
    sheets: list[View] = []
    shown: set[tuple[str, int]] = set()
    for row in _worst_first(judged):
        task, answers = row["task"], judged.answers[row["task"]]
        errors = judged.errors(task, row["slice"])
        chosen = groups_first(errors, judged.groups[answers.places])[:PICTURES]
        fresh = {(task, int(place)) for place in answers.places[chosen]} - shown
        if fresh and len(sheets) < SHEETS:
            shown |= fresh
            sheets.append(
                {
                    "task": judged.tasks[task], "slice": row["slice"], "metric": judged.metric(task, row["slice"]),
                    "entry": entry_view(row), "doubt": doubt_of(row), "errors": len(errors),
                    "pictures": [_picture(judged, pack, task, int(place)) for place in chosen],
                }
            )  # fmt: skip
    drawn = any(picture["boxes"] for sheet in sheets for picture in sheet["pictures"])
    return {"sheets": sheets, "boxes": _box_colors(judged) if drawn else {}}


def _worst_first(judged: Judged) -> list[Row]:
    test = [row for row in judged.figures if row["split"] == "test" and row["value"] is not None]
    ordered = sorted(test, key=lambda row: (-error_of(judged, row), row["task"], row["slice"]))
    of_task: dict[str, int] = {}
    turns = []
    for row in ordered:
        turns.append(of_task.get(row["task"], 0) // 2)
        of_task[row["task"]] = of_task.get(row["task"], 0) + 1
    return [ordered[place] for place in np.argsort(turns, kind="stable")]


def groups_first(order: Ints, groups: Ints) -> Ints:
    """`order` with the first of each group in front, then the second of each, and so on."""
    seen: dict[int, int] = {}
    turns = []
    for place in order.tolist():
        turns.append(seen.get(groups[place], 0))
        seen[groups[place]] = turns[-1] + 1
    return np.asarray(order[np.argsort(turns, kind="stable")], np.int64)


def _picture(judged: Judged, pack: Pack, name: str, position: int) -> View:
    task, answers = judged.tasks[name], judged.answers[name]
    place = int(answers.places[position])
    truth, said = answers.truth[position], answers.said[position]
    if task.kind == "regression":
        words = {"truth": f"{number_text(truth)} {task.unit}", "said": f"{number_text(said)} {task.unit}"}
        words |= {"grade": "off by", "degree": f"{number_text(abs(said - truth))} {task.unit}"}
    else:
        words = {"truth": task.classes[int(truth)], "said": task.classes[int(said)]}
        words |= {"grade": "confidence", "degree": f"{answers.confidence[position]:.0%}"}
    key = str(judged.keys[place])
    boxes = judged.boxes.get(place, [])
    return {**words, "key": key, "boxes": len(boxes), "image": _thumbnail(pack, key, boxes, _box_colors(judged))}


def _box_colors(judged: Judged) -> dict[str, str]:
    names = dict.fromkeys(name for task in judged.tasks.values() if task.kind == "detection" for name in task.classes)
    return {name: BOX_COLORS[code % len(BOX_COLORS)] for code, name in enumerate(names)}


def _thumbnail(pack: Pack, key: str, boxes: Sequence[tuple[str, Row]], colors: Mapping[str, str]) -> str:
    """An image of the pack as a data: URI, at most 160 pixels wide and high, with its boxes."""
    (row,) = pack.rows([key])
    shards = pack.reader()
    pixels = load_rgb(bytes(shards.read(int(pack.shard[row]), int(pack.offset[row]), int(pack.size[row]))))
    shards.close()
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    scale = image.width / pixels.shape[1]
    draw = ImageDraw.Draw(image)
    for name, box in boxes:
        left, top = box["x"] * scale, box["y"] * scale
        right, bottom = left + max(1.0, box["w"] * scale), top + max(1.0, box["h"] * scale)
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="#000000")
        draw.rectangle((left, top, right, bottom), outline=colors[name])
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85, optimize=True, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
