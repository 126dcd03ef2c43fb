"""Boxes that are likely wrong: missing, spurious or badly placed, by predicted boxes of a run."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from curation.arrays import Bools, Floats, Ints
from training.evaluation.box_matching import Boxes, overlaps

__all__ = ["BoxDoubt", "doubted_boxes"]

APART: Final = 0.1
"""Boxes that overlap less than this are of different objects."""
PLACED: Final = 0.7
"""Where boxes of one object overlap less than this, one of them is badly placed."""
SAME: Final = 0.5
"""Boxes that overlap so much are of one object."""
SURE: Final = 0.5
"""A predicted box below this share of the usual score of its class says nothing of missing or badly placed boxes."""

What = Literal["missing", "spurious", "badly placed"]


@dataclass(frozen=True, kw_only=True)
class BoxDoubt:
    """One doubt: in which `image` (a number), of which class, and where (`corners`: x, y, w, h in pixels).

    `what` is "missing" (predicted, not labelled), "spurious" (labelled, not predicted) or "badly placed" (labelled
    elsewhere than predicted: `suggested` corners). `doubt` (0 to 1) orders doubts of one kind.
    """

    what: What
    image: int
    code: int
    corners: tuple[float, ...]
    suggested: tuple[float, ...] | None
    doubt: float


def doubted_boxes(known: Boxes, predicted: Boxes) -> list[BoxDoubt]:
    """Doubts of the labelled boxes `known` by `predicted` ones of the same images, the surest of each kind first.

    Scores are compared with the median score, in each class, of predicted boxes that lie on a labelled one. A region
    of many objects is never doubted, and what lies in one is not missing.
    """
    boxes, objects, overlap = overlaps(predicted, known)
    score = _relative(predicted, boxes[(overlap >= SAME) & ~known.crowd[objects]])
    sure = score >= SURE
    held = np.zeros(len(predicted.codes))
    np.maximum.at(held, boxes, overlap)
    missing = np.flatnonzero((held < APART) & sure)
    missing = missing[~_repeated(predicted, score, missing)]
    found = [_doubt("missing", predicted, box, None, float(score[box])) for box in missing.tolist()]
    support = np.zeros(len(known.codes))
    np.maximum.at(support, objects, overlap * score[boxes])
    nearest, near = _nearest(objects, boxes, np.where(sure[boxes], overlap, 0.0), len(known.codes))
    for box in np.flatnonzero(~known.crowd).tolist():
        best = int(nearest[box])
        if APART <= near[box] < PLACED and held[best] <= near[box]:
            found.append(
                _doubt("badly placed", known, box, predicted.corners[best], float(score[best] * (1 - near[box])))
            )
        elif support[box] < APART:
            found.append(_doubt("spurious", known, box, None, float(1 - support[box])))
    return sorted(found, key=lambda part: (part.what, -part.doubt, part.image, part.corners))


def _relative(predicted: Boxes, matched: Ints) -> Floats:
    """The score [n] of each box over the usual one of its class, at most 1; that of all classes where none matched."""
    if not len(predicted.codes):
        return predicted.scores
    matched = np.unique(matched)
    overall = float(np.median(predicted.scores[matched])) if len(matched) else float(np.median(predicted.scores))
    usual = np.full(int(predicted.codes.max()) + 1, overall)
    for code in np.unique(predicted.codes[matched]).tolist():
        usual[code] = np.median(predicted.scores[matched][predicted.codes[matched] == code])
    return np.asarray(np.minimum(1.0, predicted.scores / np.maximum(usual[predicted.codes], 1e-9)), np.float64)


def _repeated(predicted: Boxes, score: Floats, places: Ints) -> Bools:
    """Whether a surer box of the same image and class lies where each of the boxes at `places` [m] does."""
    own, others, overlap = overlaps(predicted.taken(places), predicted)
    mine = places[own]
    surer = (score[others] > score[mine]) | ((score[others] == score[mine]) & (others < mine))
    return np.isin(np.arange(len(places)), own[surer & (overlap >= SAME)])


def _nearest(rows: Ints, others: Ints, overlap: Floats, count: int) -> tuple[Ints, Floats]:
    """For each of `count` boxes the other that it overlaps most, and how much (0: none)."""
    best, place = np.zeros(count), np.zeros(count, np.int64)
    order = np.lexsort((overlap, rows))
    last = order[np.r_[np.diff(rows[order]) != 0, True][: len(order)]]
    best[rows[last]], place[rows[last]] = overlap[last], others[last]
    return place, best


def _doubt(what: What, boxes: Boxes, box: int, suggested: Floats | None, doubt: float) -> BoxDoubt:
    return BoxDoubt(
        what=what, image=int(boxes.images[box]), code=int(boxes.codes[box]), doubt=doubt,
        corners=tuple(boxes.corners[box].tolist()), suggested=None if suggested is None else tuple(suggested.tolist()),
    )  # fmt: skip
