"""What a run says about the boxes of a task on each image: values of which few are known, and what is in doubt."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.analysis.box_attributes import stated_values
from curation.arrays import Bools, Floats, Ints
from curation.catalog.ignored_boxes import ignored_boxes
from curation.catalog.tasks import Task
from curation.requests.candidates import Candidates
from curation.requests.strategies import Pick, best_first

__all__ = ["BoxValues", "expected_wrong", "fewest_first", "values_of_boxes"]


@dataclass(frozen=True, kw_only=True)
class BoxValues:
    """The C classes of a task's boxes, or of one of their attributes: their `names`, how many boxes of each are `known`
    [C], and the `scores` [N, C] with which each of N images has a predicted box of it (0: it has none)."""

    names: tuple[str, ...]
    known: Floats
    scores: Floats


def values_of_boxes(candidates: Candidates, task: Task) -> list[BoxValues]:
    """The classes of a task, where there are several, then those of each attribute whose classes the run predicts.

    The score of a class on an image is the highest of its boxes. That of a value of an attribute is the highest of
    score x chance: a box's likeliest value has its confidence as chance, and the others share the rest.
    """
    places, lists = candidates.predicted_boxes(task)
    boxes, known = lists.combine_chunks(), pc.list_flatten(candidates.known(task.name)["boxes"]).combine_chunks()
    known = known.filter(pa.array(~ignored_boxes(known)))
    images, found = len(candidates.ids), list[BoxValues]()
    if len(task.classes) > 1:
        found.append(_classes(task.classes, images, places, boxes, known))
    for name, classes in _of_classes(task).items():
        if (sure := ~np.isnan(_confidences(boxes, name))).any():
            found.append(_attribute(name, classes, images, places[sure], boxes.filter(pa.array(sure)), known))
    return found


def _classes(
    classes: tuple[str, ...], images: int, places: Ints, boxes: pa.StructArray, known: pa.StructArray
) -> BoxValues:
    codes, scores = _codes(boxes), np.zeros((images, len(classes)))
    kept = codes < len(classes)
    np.maximum.at(scores, (places[kept], codes[kept]), _scores(boxes)[kept])
    return BoxValues(names=classes, known=_counts(_codes(known), len(classes)), scores=scores)


def _attribute(
    name: str, classes: tuple[str, ...], images: int, places: Ints, boxes: pa.StructArray, known: pa.StructArray
) -> BoxValues:
    said, sure, scores = stated_values(boxes, name, classes), _confidences(boxes, name), _scores(boxes)
    best = np.zeros((images, len(classes)))
    for code in range(len(classes)):
        chances = np.where(said == code, sure, (1 - sure) / max(1, len(classes) - 1))
        np.maximum.at(best[:, code], places, scores * chances)
    stated = stated_values(known, name, classes)
    counts = _counts(stated[~np.isnan(stated)].astype(np.int64), len(classes))
    return BoxValues(names=tuple(f"{name} {value}" for value in classes), known=counts, scores=best)


def _counts(codes: Ints, classes: int) -> Floats:
    """How many there are of each code [C]; those of classes that are not declared any more are left out."""
    return np.bincount(codes, minlength=classes)[:classes].astype(np.float64)


def fewest_first(values: BoxValues, open_: Bools, groups: Ints, count: int, taken: Sequence[int] = ()) -> list[Pick]:
    """`count` rows that are open [N], or as many as there are, each for the value of which the fewest boxes are known.

    What the rows before it are expected to show counts as known. Of a group [N] it takes one row at most, and none
    where a row is `taken`.

    >>> values = BoxValues(names=("car", "bus"), known=np.array([9.0, 1.0]), scores=np.array([[0.9, 0.2], [0.1, 0.8]]))
    >>> [pick.reason for pick in fewest_first(values, np.array([True, True]), np.arange(2), 1)]
    ['score of bus = 0.800']
    """
    return list(islice(_in_turn(values, open_, groups, taken), count))


def _in_turn(values: BoxValues, open_: Bools, groups: Ints, taken: Sequence[int]) -> Iterator[Pick]:
    used, seen, orders = set(groups[list(taken)].tolist()), values.known.copy(), dict[int, Iterator[int]]()
    while np.isfinite(seen).any():
        code = int(seen.argmin())
        if code not in orders:
            orders[code] = iter(best_first(values.scores[:, code], open_, groups).tolist())
        row = next((row for row in orders[code] if groups[row] not in used), None)
        if row is None:
            seen[code] = np.inf
            continue
        used.add(int(groups[row]))
        seen += values.scores[row]
        yield Pick(row=row, arm="mined", reason=f"score of {values.names[code]} = {values.scores[row, code]:.3f}")


def expected_wrong(candidates: Candidates, task: Task) -> Floats | None:
    """How many decisions about the boxes of each sample [N] the run expects to get wrong; None where it predicts none.

    It sums min(score, 1 - score) over boxes, which count as there from one half on, and for each attribute of classes
    score x (1 - confidence). A sample that is newer than the run counts as much as the most doubtful one.
    """
    if task.kind != "detection" or not candidates.predicts(task):
        return None
    places, lists = candidates.predicted_boxes(task)
    boxes = lists.combine_chunks()
    scores = _scores(boxes)
    doubts = np.minimum(scores, 1 - scores)
    for name in _of_classes(task):
        doubts = doubts + scores * np.nan_to_num(1 - _confidences(boxes, name))
    found = np.bincount(places, doubts, len(candidates.ids)).astype(np.float64)
    return np.where(candidates.predicted(task), found, max(0.5, found.max(initial=0.0)))


def _of_classes(task: Task) -> dict[str, tuple[str, ...]]:
    """The attributes of a task's boxes that have classes, and these."""
    return {name: tuple(says) for name, says in task.attributes if not isinstance(says, str)}


def _scores(boxes: pa.StructArray) -> Floats:
    return np.asarray(pc.struct_field(boxes, "score").to_numpy(zero_copy_only=False), np.float64)


def _codes(boxes: pa.StructArray) -> Ints:
    return np.asarray(pc.struct_field(boxes, "code").to_numpy(zero_copy_only=False), np.int64)


def _confidences(boxes: pa.StructArray, attribute: str) -> Floats:
    """How sure the run is of an attribute of each box [n]; NaN where it predicts none."""
    if boxes.type.get_field_index("confidences") < 0 or not len(boxes):
        return np.full(len(boxes), np.nan)
    sure = pc.map_lookup(pc.struct_field(boxes, "confidences"), attribute, "first")
    return np.asarray(pc.fill_null(sure, np.nan).to_numpy(zero_copy_only=False), np.float64)
