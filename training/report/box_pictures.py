"""Pictures of a task of boxes in the report: the test images with the most errors, known and predicted boxes apart."""

from typing import Any, Final

import numpy as np

from curation.arrays import Ints
from training.evaluation.group_order import groups_first
from training.evaluation.labelled_boxes import LabelledBoxes
from training.report.drawn_boxes import box_colors, thumbnail_with
from training.report.origin import PictureOf
from training.report.run_results import RunResults

__all__ = ["box_pictures"]

View = dict[str, Any]

PICTURES: Final = 12


def box_pictures(results: RunResults, name: str, picture_of: PictureOf, score: float) -> View:
    """The test images with the most missed objects and false boxes of a task, at this score and an overlap of one half;
    one of each group first."""
    test = results.detections[name].at(results.test)
    missed, false = _errors(test, len(results.samples.ids), score)
    wrong = np.flatnonzero(missed + false)
    wrong = wrong[np.argsort(-(missed + false)[wrong], kind="stable")]
    chosen = groups_first(wrong, results.samples.groups)[:PICTURES]
    task = results.tasks[name]
    colors = box_colors([task])
    pictures = []
    for sample in chosen.tolist():
        key = str(results.samples.keys[sample])
        known = [(part, box) for part, box in results.boxes.get(sample, []) if part in task.classes]
        predicted = _predicted(test, sample, score, task.classes)
        pictures.append(
            {"key": key, "image": thumbnail_with(picture_of(key), known, colors, predicted), "known": len(known),
             "predicted": len(predicted), "missed": int(missed[sample]), "false": int(false[sample])}
        )  # fmt: skip
    return {"pictures": pictures, "colors": colors, "wrong": len(wrong)}


def _errors(test: LabelledBoxes, samples: int, score: float) -> tuple[Ints, Ints]:
    """Missed objects and false boxes of each sample [N]."""
    sums = test.sums
    sure = sums.scores >= score
    hits = np.bincount(sums.images[sure & sums.found[:, 0]], minlength=samples)
    false = np.bincount(sums.images[sure & sums.judged[:, 0] & ~sums.found[:, 0]], minlength=samples)
    objects = np.bincount(sums.object_images, minlength=samples)
    return objects - hits, false


def _predicted(test: LabelledBoxes, sample: int, score: float, classes: tuple[str, ...]) -> list[tuple[str, View]]:
    boxes = test.predicted
    if boxes is None:
        return []
    here = np.flatnonzero((boxes.images == sample) & (boxes.scores >= score))
    return [
        (classes[int(boxes.codes[row])], dict(zip("xywh", boxes.corners[row].tolist(), strict=True)))
        for row in here.tolist()
    ]
