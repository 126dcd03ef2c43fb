"""Boxes that a network found, as rows of the predictions file: in pixels of the upright images."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Floats, Ints
from curation.errors import BadInput
from samplers.plan.box_attributes import BoxAttribute, attribute_columns
from training.evaluation.predictions import ATTRIBUTES, BOXES, GIVEN, box_table

__all__ = ["BOX", "LEAST", "found_boxes", "given_boxes", "likeliest"]

BOX: Final = 6
"""Columns of a found box before those of its attributes: class code, left, top, width, height, score."""

LEAST = 0.01
"""Boxes with a lower score are left out: they are many, and move an average precision by less than its rounding."""


def found_boxes(
    task: str, keys: pa.Array, found: Floats, sizes: Ints, run: str, attributes: Sequence[BoxAttribute] = (),
    given: pa.Array | None = None,
) -> pa.Table:  # fmt: skip
    """Rows of `PREDICTIONS` and `BOXES` for a task of boxes, the best box of each image first.

    `found` [n, M, 6 + 2 K] are class code, left, top, width and height as parts of the image, score, and what
    `likeliest` says of the K `attributes`; `sizes` [n, 2] are widths and heights in pixels; `given` are those of
    `given_boxes`. A box without an area is left out. BadInput names an image whose boxes are not finite.
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
    fields = list(BOXES.type.value_type)
    if attributes:
        columns += _attributes_of(found[:, :, BOX:][kept], attributes)
        fields += [pa.field(*part) for part in ATTRIBUTES]
    structs = pa.StructArray.from_arrays(columns, fields=fields)
    ends = np.r_[0, np.cumsum(kept.sum(axis=1))]
    return box_table(task, keys, pa.ListArray.from_arrays(pa.array(ends, pa.int32()), structs), given)


def given_boxes(lists: pa.ListArray, likely: Floats, attributes: Sequence[BoxAttribute]) -> pa.Array:
    """`GIVEN` for images with these known boxes (null: unknown), from what `likeliest` says of each box [k, 2 K]."""
    boxes = lists.flatten()
    sides = [pc.struct_field(boxes, side) for side in ("code", "x", "y", "w", "h")]
    columns = [*sides, *_attributes_of(likely, attributes)]
    structs = pa.StructArray.from_arrays(columns, fields=list(GIVEN.type.value_type))
    ends = np.r_[0, np.cumsum(pc.fill_null(pc.list_value_length(lists), 0).to_numpy())]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), structs, mask=pc.is_null(lists))


def likeliest(answers: Floats, attributes: Sequence[BoxAttribute]) -> Floats:
    """Of each attribute its likeliest class (a code) with its probability, or its number and 1 [..., 2 K], from class
    probabilities and numbers [..., A] (`network.box_attributes.attribute_answers`). Not finite where these are not."""
    parts = []
    for each, columns in attribute_columns(attributes):
        own = answers[..., columns]
        if each.classes:
            parts += [own.argmax(axis=-1).astype(np.float64), own.max(axis=-1)]
        else:
            parts += [own[..., 0], np.ones(own.shape[:-1])]
    return np.stack(parts, axis=-1) if parts else np.zeros((*answers.shape[:-1], 0))


def _attributes_of(likely: Floats, attributes: Sequence[BoxAttribute]) -> list[pa.Array]:
    """The columns of `ATTRIBUTES` of k boxes, from what `likeliest` returns of them [k, 2 K]."""
    texts = np.empty((len(likely), len(attributes)), object)
    for column, each in enumerate(attributes):
        values = likely[:, 2 * column]
        texts[:, column] = (
            np.asarray(each.classes, object)[values.astype(np.int64)] if each.classes else [str(v) for v in values]
        )
    numeric = np.tile([not each.classes for each in attributes], len(likely))
    names = np.tile(np.array([each.name for each in attributes], object), len(likely))
    ends = pa.array(np.arange(len(likely) + 1) * len(attributes), pa.int32())
    counted = pa.array(np.arange(len(likely) + 1) * sum(bool(each.classes) for each in attributes), pa.int32())
    stated = pa.MapArray.from_arrays(ends, pa.array(names, pa.string()), pa.array(texts.ravel(), pa.string()))
    sure = pa.MapArray.from_arrays(
        counted, pa.array(names[~numeric], pa.string()), pa.array(likely[:, 1::2].ravel()[~numeric], pa.float64())
    )
    return [stated, sure]
