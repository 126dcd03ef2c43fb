"""Which predicted boxes find an object: matching inside each image and class by overlap, as COCO does it.

A box of the highest score takes first, and takes the object of its class that it overlaps most among those that are
left, if intersection over union reaches the threshold (Lin et al. 2014, `cocoeval`). A box without an object of which
so much lies in a crowd (a labelled region of many objects) counts for nothing. So matches of one image depend on no
other image, and figures follow from them by sums. All images are matched at once, box by box in the order of scores.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from curation.arrays import Bools, Floats, Ints

__all__ = ["MOST", "THRESHOLDS", "Boxes", "finders", "found_objects", "overlaps"]

THRESHOLDS: Floats = np.asarray(np.linspace(0.5, 0.95, 10), np.float64)
"""Least overlaps at which a box counts as found."""

MOST = 100
"""Boxes of an image and class that are judged: those with the highest scores."""


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """n boxes of several images: the image [n] as a number, class codes [n], `corners` [n, 4] as x, y, w, h in pixels,
    `scores` [n] (1 for labels) and `crowd` [n], whether a label is a region of many objects."""

    images: Ints
    codes: Ints
    corners: Floats
    scores: Floats
    crowd: Bools

    def taken(self, places: Bools | Ints) -> "Boxes":
        """Only the boxes at these places."""
        return Boxes(**{name: value[places] for name, value in vars(self).items()})


def found_objects(predicted: Boxes, known: Boxes) -> tuple[Boxes, Bools, Bools]:
    """The judged boxes [m], by image, class and falling score; at each of `THRESHOLDS` whether each finds an object
    [m, T], and whether it finds none and lies in a crowd [m, T].

    >>> one = dict(images=np.array([0]), codes=np.array([0]), scores=np.ones(1), crowd=np.zeros(1, bool))
    >>> known = Boxes(corners=np.array([[0.0, 0.0, 10.0, 10.0]]), **one)
    >>> predicted = Boxes(corners=np.array([[0.0, 0.0, 10.0, 8.0]]), **one)
    >>> found_objects(predicted, known)[1].sum()
    7
    """
    classes = 1 + max(predicted.codes.max(initial=0), known.codes.max(initial=0))
    predicted, _, cell = _ranked(predicted, classes)
    boxes, objects, overlap = overlaps(predicted, known)
    crowd = known.crowd[objects]
    near = (overlap >= THRESHOLDS[0]) & ~crowd
    found = _greedy(cell, len(known.codes), boxes[near], objects[near], overlap[near], THRESHOLDS) >= 0
    inside: Floats = np.zeros(len(cell))
    np.maximum.at(inside, boxes[crowd], overlap[crowd])
    return predicted, found, ~found & (inside[:, None] >= THRESHOLDS)


def finders(predicted: Boxes, known: Boxes) -> Ints:
    """The place among `predicted` of the box that finds each known box [k] at an overlap of one half, as
    `found_objects` matches them; -1 where none does."""
    classes = 1 + max(predicted.codes.max(initial=0), known.codes.max(initial=0))
    judged, order, cell = _ranked(predicted, classes)
    boxes, objects, overlap = overlaps(judged, known)
    near = (overlap >= THRESHOLDS[0]) & ~known.crowd[objects]
    taken = _greedy(cell, len(known.codes), boxes[near], objects[near], overlap[near], THRESHOLDS[:1])[:, 0]
    found = np.full(len(known.codes), -1, np.int64)
    found[taken[taken >= 0]] = order[taken >= 0]
    return found


def overlaps(predicted: Boxes, known: Boxes) -> tuple[Ints, Ints, Floats]:
    """Every pair of a predicted and a known box of one image and class: places in both, and intersection over union
    [m]; for a crowd the part of the predicted box that lies in it. In the order of the predicted boxes."""
    classes = 1 + max(predicted.codes.max(initial=0), known.codes.max(initial=0))
    cells = [boxes.images * classes + boxes.codes for boxes in (predicted, known)]
    by_cell = [np.argsort(cell, kind="stable") for cell in cells]
    boxes, objects = _pairs(cells[0][by_cell[0]], cells[1][by_cell[1]])
    boxes, objects = by_cell[0][boxes], by_cell[1][objects]
    order = np.argsort(boxes, kind="stable")
    boxes, objects = boxes[order], objects[order]
    common = _common(predicted.corners[boxes], known.corners[objects])
    own, other = (part.prod(axis=1) for part in (predicted.corners[boxes, 2:], known.corners[objects, 2:]))
    return boxes, objects, common / np.where(known.crowd[objects], own, own + other - common)


def _ranked(predicted: Boxes, classes: int) -> tuple[Boxes, Ints, Ints]:
    """The judged boxes [m] by image, class and falling score, their places among all, and image and class as a cell."""
    cell = predicted.images * classes + predicted.codes
    order = np.lexsort((-predicted.scores, cell))
    order = order[_rank(cell[order]) < MOST]
    return predicted.taken(order), order, cell[order]


def _common(one: Floats, other: Floats) -> Floats:
    """The area [n] that pairs of boxes [n, 4] have in common."""
    low = np.maximum(one[:, :2], other[:, :2])
    high = np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=1), np.float64)


def _rank(cells: Ints) -> Ints:
    """The place [n] of each entry of the sorted `cells` among those of its cell."""
    places = np.arange(len(cells))
    starts = np.r_[True, np.diff(cells) != 0][: len(cells)]
    return np.asarray(places - np.maximum.accumulate(np.where(starts, places, 0)), np.int64)


def _pairs(cells: Ints, others: Ints) -> tuple[Ints, Ints]:
    """Every pair of places in the sorted `cells` and in the sorted `others` with equal entries."""
    first, last = (np.searchsorted(others, cells, side=side) for side in ("left", "right"))
    counts = last - first
    places = np.repeat(np.arange(len(cells)), counts)
    offsets = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places, np.asarray(np.repeat(first, counts) + offsets, np.int64)


def _greedy(
    cells: Ints, objects: int, boxes: Ints, pair_objects: Ints, overlap: Floats, thresholds: Floats
) -> Ints:  # fmt: skip
    """The object that each box finds [m, T], -1 for none, from the pairs that overlap: in turns, the best box of a
    cell first."""
    found = np.full((len(cells), len(thresholds)), -1, np.int64)
    if not len(boxes):
        return found
    near = np.unique(boxes)
    turn = np.zeros(len(cells), np.int64)
    turn[near] = _rank(cells[near])
    order = np.lexsort((-pair_objects, -overlap, boxes, turn[boxes]))
    boxes, pair_objects, overlap = boxes[order], pair_objects[order], overlap[order]
    ends = np.searchsorted(turn[boxes], np.arange(turn.max() + 2))
    for place, threshold in enumerate(thresholds):
        taken = np.zeros(objects, np.bool_)
        for start, end in pairwise(ends.tolist()):
            free = start + np.flatnonzero((overlap[start:end] >= threshold) & ~taken[pair_objects[start:end]])
            best = free[np.r_[True, np.diff(boxes[free]) != 0][: len(free)]]
            found[boxes[best], place] = pair_objects[best]
            taken[pair_objects[best]] = True
    return found
