"""Answers of tasks of boxes: how far two of them are apart, and those that a run recorded."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.analysis.box_attributes import stated_values
from curation.arrays import Floats, Ints
from samplers.plan.box_attributes import BoxAttribute, attribute_columns, attribute_outputs
from training.evaluation.predicted_boxes import BOX, LEAST

__all__ = ["apart", "recorded_boxes"]

Answer = npt.NDArray[np.floating]


def apart(one: Answer, other: Answer, tolerance: float) -> float:
    """The largest difference of two answers [n, M, 6 + A] (`training.network.detection.boxes_of`), image by image.

    Each box is compared with the nearest one of its class on the other side: the largest difference of score, edges,
    sides and attributes; an attribute is left out where it is NaN in `other`. Boxes of about equal score may change
    places, and the last of the M may be another one: so boxes within `tolerance` of the smallest score that a side
    holds, or of `LEAST`, need no partner; nor do boxes without an area, which no run records. NaN where one is not
    finite.
    """
    if not (np.isfinite(one).all() and np.isfinite(other[:, :, :BOX]).all()):
        return float("nan")
    found = 0.0
    for mine, theirs in zip(one, other, strict=True):
        distances = np.abs(mine[:, None] - theirs[None])
        far = np.where(distances[:, :, 0] > 0.5, np.inf, np.nanmax(distances[:, :, 1:], axis=2))
        least = max(LEAST, float(mine[:, 5].min(initial=1)), float(theirs[:, 5].min(initial=1))) + tolerance
        for boxes, nearest in ((mine, far.min(axis=1, initial=np.inf)), (theirs, far.min(axis=0, initial=np.inf))):
            needed = (boxes[:, 5] > least) & (boxes[:, 3:5] > tolerance).all(axis=1)
            found = max(found, float(nearest[needed].max(initial=0)))
    return found


def recorded_boxes(lists: pa.ChunkedArray, sizes: Ints, attributes: Sequence[BoxAttribute] = ()) -> Floats:
    """Recorded boxes of n images as answers [n, M, 6 + A], in parts of images of `sizes` [n, 2]; score 0 fills up.

    Of the probabilities of an attribute only that of the recorded class is known; the others are NaN.
    """
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    found = np.zeros((len(lists), int(counts.max(initial=0)) + 1, BOX + attribute_outputs(attributes)))
    image = np.repeat(np.arange(len(lists)), counts)
    place = np.arange(len(image)) - np.repeat(np.cumsum(counts) - counts, counts)
    flat = pc.list_flatten(lists).combine_chunks()
    for column, name in enumerate(("code", "x", "y", "w", "h", "score")):
        found[image, place, column] = pc.struct_field(flat, name).to_numpy()
    found[:, :, 1:5] /= np.tile(sizes, 2)[:, None]
    for each, columns in attribute_columns(attributes, BOX):
        stated = stated_values(flat, each.name, each.classes)
        if each.classes:
            found[image, place, columns] = np.nan
            sure = pc.map_lookup(pc.struct_field(flat, "confidences"), each.name, "first")
            found[image, place, columns.start + stated.astype(np.int64)] = sure.to_numpy(zero_copy_only=False)
        else:
            found[image, place, columns.start] = stated
    return found
