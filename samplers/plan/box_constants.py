"""The loss of the best constant predictor of boxes: what divides the loss of a task of boxes, fixed in its plan.

A constant predictor gives every cell the same chance of each class, and every object the same size and place in its
cell. Its loss is that of `training.network.detection.box_losses`, on a map of 1,024 cells whatever the size of images
will be: the loss of the best chance grows with the logarithm of the cells alone, so another map moves it by little
(16 times the cells: by about a quarter). That cells beside a centre count less is left out.
"""

from typing import Final

import numpy as np
import pyarrow.compute as pc

from curation.arrays import Floats
from curation.catalog.ignored_boxes import ignored_boxes
from samplers.plan.labels import TaskLabels

__all__ = ["CELLS", "constant_box_loss"]

CELLS: Final = 1024
"""Cells of the map on which the constant predictor is judged: 32 x 32, of images of 256 x 256 pixels."""

OFFSETS: Final = 0.5
"""The mean absolute errors of both offsets from one half, where centres lie anywhere in their cells."""


def constant_box_loss(labels: TaskLabels, q: Floats) -> float:
    """The loss of the best constant predictor of boxes, whose labels [L] are drawn with the probabilities `q` [L].

    For a class with a objects and m cells in the mean (each image divided by its objects, at least 1), it is the least
    a (1 - p)^2 (-log p) + m p^2 (-log(1 - p)) over p; to their sum come the mean absolute deviations of the logarithms
    of both sides from their medians, and 1/2 for the offsets.
    """
    from scipy.optimize import minimize_scalar

    assert labels.lists is not None
    image = np.repeat(np.arange(len(q)), pc.fill_null(pc.list_value_length(labels.lists), 0).to_numpy())
    boxes = labels.lists.flatten()
    real = ~ignored_boxes(boxes)
    image, code = image[real], np.asarray(pc.struct_field(boxes, "code"), np.int64)[real]
    objects = np.maximum(np.bincount(image, minlength=len(q)), 1)
    each = (q / objects)[image]
    cells = CELLS * float((q / objects).sum())
    found = 0.0
    for share in np.bincount(code, each, minlength=len(labels.task.classes)).tolist():
        chance = minimize_scalar(_heat_loss, bounds=(-20.0, 5.0), args=(share, cells), method="bounded")
        found += float(chance.fun)
    for side in ("w", "h"):
        logs = np.log(np.maximum(np.asarray(pc.struct_field(boxes, side), np.float64)[real], 1e-3))
        found += float((each * np.abs(logs - _median(logs, each))).sum()) if len(logs) else 0.0
    return found + OFFSETS * float(each.sum())


def _heat_loss(logit: float, share: float, cells: float) -> float:
    """The loss of one chance, given as a logit, for a class with so many objects and cells."""
    missed, wrong = np.logaddexp(0.0, -logit), np.logaddexp(0.0, logit)
    chance = 1 / (1 + np.exp(-logit))
    return float(share * (1 - chance) ** 2 * missed + cells * chance**2 * wrong)


def _median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    mass = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(mass, mass[-1] / 2)]])
