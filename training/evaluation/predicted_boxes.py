"""Boxes that a network found, as rows of the predictions file: in pixels of the upright images."""

import numpy as np
import pyarrow as pa

from curation.arrays import Floats, Ints
from curation.errors import BadInput
from training.evaluation.predictions import BOXES, box_table

__all__ = ["LEAST", "found_boxes"]

LEAST = 0.01
"""Boxes with a lower score are left out: they are many, and move an average precision by less than its rounding."""


def found_boxes(task: str, keys: pa.Array, found: Floats, sizes: Ints, run: str) -> pa.Table:
    """Rows of `PREDICTIONS` and `BOXES` for a task of boxes, the best box of each image first.

    `found` [n, M, 6] are class code, left, top, width and height as parts of the image, and score; `sizes` [n, 2] are
    widths and heights in pixels. A box without an area is left out. BadInput names an image whose boxes are not finite.
    """
    finite = np.isfinite(found).all(axis=(1, 2))
    if not finite.all():
        key = keys[int((~finite).argmax())].as_py()
        raise BadInput(
            f"run {run}: task {task} predicts boxes that are no finite numbers on {key}; train again with a lower rate"
        )
    kept = (found[:, :, 5] >= LEAST) & (found[:, :, 3:5] > 0).all(axis=2)
    corners = (found[:, :, 1:5] * np.tile(sizes, 2)[:, None])[kept]
    columns = [
        pa.array(found[:, :, 0][kept].astype(np.int32)), *(pa.array(corners[:, side]) for side in range(4)),
        pa.array(found[:, :, 5][kept]),
    ]  # fmt: skip
    structs = pa.StructArray.from_arrays(columns, fields=list(BOXES.type.value_type))
    ends = np.r_[0, np.cumsum(kept.sum(axis=1))]
    return box_table(task, keys, pa.ListArray.from_arrays(pa.array(ends, pa.int32()), structs))
