"""Which boxes of labels are regions that nobody is judged on: a crowd of COCO, or a region marked to be ignored."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools

__all__ = ["IGNORED", "ignored_boxes"]

IGNORED = ("iscrowd", "ignore")
"""Attributes of a box that make it such a region where one of them is "true"."""


def ignored_boxes(boxes: pa.StructArray) -> Bools:
    """Whether each box [n] is a region that neither trains nor judges a detector; False for boxes without attributes.

    >>> kind = pa.struct([("code", pa.int32()), ("attributes", pa.map_(pa.string(), pa.string()))])
    >>> ignored_boxes(pa.array([(0, [("iscrowd", "true")]), (0, [("occluded", "true")]), (0, None)], kind)).tolist()
    [True, False, False]
    """
    found = np.zeros(len(boxes), np.bool_)
    if boxes.type.get_field_index("attributes") < 0 or not len(boxes):
        return found
    attributes = pc.struct_field(boxes, "attributes")
    for name in IGNORED:
        said = pc.equal(pc.map_lookup(attributes, pa.scalar(name), "last"), "true")
        found |= np.asarray(pc.fill_null(said, False).to_numpy(zero_copy_only=False), np.bool_)
    return found
