"""How a run predicts the boxes of each class: average precision, precision and recall, and their curves."""

from typing import Any, Final

import numpy as np

from training.evaluation.box_matching import THRESHOLDS
from training.evaluation.box_sums import BoxSums
from training.evaluation.intervals import Figure
from training.report.attribute_results import attributes_view
from training.report.box_pictures import box_pictures
from training.report.charts import Mark, unit_chart
from training.report.formatting import entry_view, share_row
from training.report.origin import PictureOf
from training.report.run_results import RunResults

__all__ = ["boxes_view"]

View = dict[str, Any]

SCORE: Final = 0.5
"""The score from which on a box counts as predicted, for precision and recall."""
CURVES: Final = 6
"""Classes of a task with a curve: those of the lowest average precision."""
CLASSES: Final = 40
"""Classes in a task's table: those with the most objects."""


def boxes_view(results: RunResults, picture_of: PictureOf) -> list[View]:
    """A table of classes, curves and pictures for each task of boxes, on test."""
    return [_task_view(results, name) | box_pictures(results, name, picture_of, SCORE) for name in results.detections]


def _task_view(results: RunResults, name: str) -> View:
    test, task = results.detections[name].at(results.test), results.tasks[name]
    sums = test.sums
    objects = np.bincount(sums.object_codes, minlength=len(task.classes))
    boxes = np.bincount(sums.codes[sums.scores >= SCORE], minlength=len(task.classes))
    order = np.argsort(-objects, kind="stable")[:CLASSES].tolist()
    rows = [_row(sums, code, task.classes[code], int(objects[code]), int(boxes[code])) for code in order]
    worst = sorted((row for row in rows if row["ranked"] is not None), key=lambda row: (row["ranked"], row["name"]))
    return {
        "task": task, "n": len(test.rows), "score": SCORE, "rows": rows, "hidden": len(task.classes) - len(rows),
        "curves": [_panel(sums, row) for row in worst[:CURVES]], "weighted": not np.all(test.weights == 1),
        "attributes": attributes_view(results, name, test),
    }  # fmt: skip


def _row(sums: BoxSums, code: int, name: str, objects: int, boxes: int) -> View:
    found = sums.average_precisions(code)
    mean, half = (None, None) if found is None else (float(found.mean()), float(found[0]))
    return {
        "code": code, "name": name, "objects": objects, "boxes": boxes, "ranked": mean, "map": mean, "ap50": half,
        "precision": _entry(sums.precision(code, SCORE)), "recall": _entry(sums.recall(code, SCORE)),
    }  # fmt: skip


def _panel(sums: BoxSums, row: View) -> View:
    recall, precision, scores = sums.curve(row["code"])
    reached = int((scores >= SCORE).sum())
    marks = [Mark(x=float(recall[reached - 1]), y=float(precision[reached - 1]), form=0)] if reached else []
    alt = (
        f"Precision of the boxes of {row['name']} against their recall on test, at an overlap of {THRESHOLDS[0]:g}; "
        f"AP50 {row['ap50']:.3f}."
    )
    return {**row, "chart": unit_chart(alt, recall, precision, across="recall", marks=marks)}


def _entry(figure: Figure) -> View | None:
    return entry_view(share_row(figure))
