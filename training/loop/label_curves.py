"""A learning curve that is measured: the exact head of a task on nested parts of its labels, each judged alike."""

from statistics import fmean
from typing import Final

import numpy as np

from curation.arrays import Bools
from training.evaluation.figures import figure_of
from training.judging.forecast import CurvePoint
from training.loop.refits import Known, Refit

__all__ = ["refitted_curve"]

SMALLEST: Final = 20
"""Labels of the smallest part."""
MOST: Final = 7
"""Points of a curve."""
FACTOR: Final = 2**0.5
"""How many times as many labels each point has."""
ORDERS: Final = 3
"""Random orders of the groups over which a point is the mean."""


def refitted_curve(refit: Refit, inside: Bools | None = None) -> list[CurvePoint]:
    """The figures of a task's own metric after part after part of the labels known now, the last after all of them.

    `inside` [N] marks the samples of a slice. A figure is the mean over random orders of the groups, and so are the
    ends of its interval, because all orders are judged by the same labels. Parts without an interval are left out.
    """
    whole = len(refit.now.labels.rows)
    steps = min(MOST - 1, int(np.log(max(1.0, whole / SMALLEST)) / np.log(FACTOR)))
    sizes = (whole / FACTOR ** np.arange(steps, 0, -1)).astype(np.int64).tolist()
    parts: list[list[CurvePoint]] = [[] for _ in sizes]
    for order in range(ORDERS):
        for points, known in zip(parts, refit.nested(sizes, order), strict=True):
            points += _point(refit, known, inside)
    parts.append(_point(refit, refit.now, inside))
    means = [_mean(points) for points in parts if points]
    return list({point.labels: point for point in means}.values())


def _point(refit: Refit, known: Known, inside: Bools | None) -> list[CurvePoint]:
    """The point of one refit; none without an interval."""
    predicted = refit.predictions(known)
    if inside is not None:
        predicted = predicted.at(inside)
    point = CurvePoint.of(len(known.labels.rows), figure_of(refit.task, predicted, predicted.samples))
    return [point] if point else []


def _mean(points: list[CurvePoint]) -> CurvePoint:
    value, low, high = (fmean(getattr(point, name) for point in points) for name in ("value", "low", "high"))
    labels = round(fmean(point.labels for point in points))
    return CurvePoint(labels=labels, value=value, low=low, high=high, n=points[0].n)
