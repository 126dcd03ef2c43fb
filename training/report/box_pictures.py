"""Pictures of a task of boxes in the report: the test images with the most errors, known and predicted boxes apart."""

from typing import Any, Final

import numpy as np

from curation.arrays import Bools, Ints
from training.evaluation.box_matching import Boxes
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
        known = _named(test.known, (test.known.images == sample) & ~test.known.crowd, task.classes)
        here = (test.predicted.images == sample) & (test.predicted.scores >= score)
        predicted = _named(test.predicted, here, task.classes)
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


def _named(boxes: Boxes, here: Bools, classes: tuple[str, ...]) -> list[tuple[str, View]]:
    """The boxes that `here` marks: the name of the class, and x, y, w, h."""
    return [
        (classes[int(boxes.codes[row])], dict(zip("xywh", boxes.corners[row].tolist(), strict=True)))
        for row in np.flatnonzero(here).tolist()
    ]
