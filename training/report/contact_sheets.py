"""The worst slices, as contact sheets of their errors."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from training.evaluation.group_order import groups_first
from training.report.drawn_boxes import box_colors, thumbnail_with
from training.report.formatting import doubt_of, entry_view, error_of, number_text, precision_text
from training.report.origin import PictureOf
from training.report.run_results import RunResults

__all__ = ["worst_view"]

Row = Mapping[str, Any]
View = dict[str, Any]


SHEETS = 6
PICTURES = 12


def worst_view(results: RunResults, picture_of: PictureOf) -> View:
    """Contact sheets of the worst (task, slice) cells: two of each task before a third, each with a new picture."""
    sheets: list[View] = []
    shown: set[tuple[str, int]] = set()
    for row in _worst_first(results):
        if len(sheets) == SHEETS:
            break
        task, predicted = row["task"], results.predictions[row["task"]]
        errors = results.errors(task, row["slice"])
        chosen = groups_first(errors, results.samples.groups[predicted.rows])[:PICTURES]
        new = {(task, int(sample)) for sample in predicted.rows[chosen]} - shown
        if new:
            shown |= new
            sheets.append(
                {
                    "task": results.tasks[task], "slice": row["slice"], "metric": results.metric(task, row["slice"]),
                    "entry": entry_view(row), "doubt": doubt_of(row), "errors": len(errors),
                    "precision": precision_text(results, task, row["slice"]),
                    "pictures": [_picture(results, picture_of, task, int(position)) for position in chosen],
                }
            )  # fmt: skip
    drawn = any(picture["boxes"] for sheet in sheets for picture in sheet["pictures"])
    return {"sheets": sheets, "boxes": box_colors(results.tasks.values()) if drawn else {}}


def _worst_first(results: RunResults) -> list[Row]:
    test = [
        row for row in results.figures
        if row["split"] == "test" and row["value"] is not None and row["task"] in results.predictions
    ]  # fmt: skip
    ordered = sorted(test, key=lambda row: (-error_of(results, row), row["task"], row["slice"]))
    sheets: dict[str, int] = {}
    turns = []
    for row in ordered:
        turns.append(sheets.get(row["task"], 0) // 2)
        sheets[row["task"]] = sheets.get(row["task"], 0) + 1
    return [ordered[position] for position in np.argsort(turns, kind="stable")]


def _picture(results: RunResults, picture_of: PictureOf, name: str, position: int) -> View:
    task, predictions = results.tasks[name], results.predictions[name]
    sample = int(predictions.rows[position])
    truth, predicted = predictions.truth[position], predictions.predicted[position]
    if task.kind == "regression":
        texts = {"truth": f"{number_text(truth)} {task.unit}", "predicted": f"{number_text(predicted)} {task.unit}"}
        texts |= {"grade": "off by", "degree": f"{number_text(abs(predicted - truth))} {task.unit}"}
    else:
        texts = {"truth": task.classes[int(truth)], "predicted": task.classes[int(predicted)]}
        texts |= {"grade": "confidence", "degree": f"{predictions.confidence[position]:.0%}"}
    key = str(results.samples.keys[sample])
    boxes = results.boxes.get(sample, [])
    return {
        **texts,
        "key": key,
        "boxes": len(boxes),
        "image": thumbnail_with(picture_of(key), boxes, box_colors(results.tasks.values())),
    }
