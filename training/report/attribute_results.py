"""How a run predicts the attributes of boxes: on known boxes and on those that it finds, by slice, and by class."""

from typing import Any, Final

import numpy as np

from training.evaluation.attribute_sums import AttributeSums
from training.evaluation.intervals import Figure
from training.evaluation.labelled_boxes import LabelledBoxes
from training.report.formatting import entry_view, share_row
from training.report.run_results import RunResults

__all__ = ["attributes_view"]

View = dict[str, Any]

CLASSES: Final = 40
"""Classes in an attribute's table: those with the most boxes."""
CONFUSED: Final = 12
"""With at most so many classes, the whole confusion is shown."""


def attributes_view(results: RunResults, name: str, test: LabelledBoxes) -> list[View]:
    """The tables of each attribute that a run predicts for the boxes of a task, on test."""
    slices = [""] + [each for each in results.inside if each and results.slices[each].task in ("", name)]
    parts = {each: results.detections[name].at(results.test & results.inside[each]) for each in slices}
    return [
        {
            "name": attribute, "unit": "" if sums.classes else dict(results.tasks[name].attributes)[attribute],
            "slices": [_slice(each, part.attributes[attribute]) for each, part in parts.items()],
            **_classes(sums),
        }
        for attribute, sums in test.attributes.items()
    ]  # fmt: skip


def _slice(name: str, sums: AttributeSums) -> View:
    figures = sums.figures()
    given, found = figures[sums.metric], figures[f"{sums.metric}_found"]
    return {
        "name": name or "(all)", "n": len(sums.truth), "given": _entry(given, sums), "found": _entry(found, sums),
        "recall": entry_view(share_row(figures["recall"])),
    }  # fmt: skip


def _classes(sums: AttributeSums) -> View:
    """Boxes of each class, how many are right, and which class the others are most often taken for; the confusion."""
    if not sums.classes:
        return {"rows": [], "hidden": 0, "confusion": None}
    confusion = sums.confusion()
    counts = np.bincount(sums.truth.astype(np.int64), minlength=len(sums.classes))
    order = np.argsort(-counts, kind="stable")[:CLASSES].tolist()
    rows = []
    for code in order:
        wrong = np.where(np.arange(len(counts)) == code, 0, confusion[code])
        figure = sums.of_class(code).figures()[sums.metric]
        rows.append(
            {"name": sums.classes[code], "n": int(counts[code]), "right": int(confusion[code, code]),
             "entry": entry_view(share_row(figure)),
             "mistaken": f"{sums.classes[int(wrong.argmax())]} ({int(wrong.max())})" if wrong.any() else ""}
        )  # fmt: skip
    small = len(sums.classes) <= CONFUSED
    return {
        "rows": rows, "hidden": len(counts) - len(rows),
        "confusion": [{"name": n, "cells": c} for n, c in zip(sums.classes, confusion.tolist(), strict=True)]
        if small else None,
    }  # fmt: skip


def _entry(figure: Figure, sums: AttributeSums) -> View | None:
    return entry_view({**vars(figure), "metric": "mae" if not sums.classes else "share"})
