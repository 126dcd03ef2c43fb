"""What is known of boxes: for each declared attribute of a task of boxes, how many boxes have it, by value."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Floats
from curation.catalog.ignored_boxes import ignored_boxes
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot

__all__ = ["AttributeCount", "attribute_counts", "is_of_attribute", "stated_values"]

NUMBER: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
"""A number as an attribute states it."""


@dataclass(frozen=True, kw_only=True)
class AttributeCount:
    """Boxes of one (task, attribute, split): all that are labelled, and by class those of which it is known.

    A number has no classes: `known` alone counts it. Regions to be ignored are no boxes.
    """

    task: str
    attribute: str
    split: str
    boxes: int
    known: int
    counts: dict[str, int]

    def row(self) -> dict[str, object]:
        """The counts as a plain row, with the number of boxes where the attribute is unknown."""
        return {**asdict(self), "unknown": self.boxes - self.known}


def attribute_counts(now: Snapshot) -> tuple[AttributeCount, ...]:
    """The counts of every declared attribute, by split ("unsplit": none yet); excluded samples are left out."""
    declared = [task for task in now.tasks().values() if task.attributes]
    if not declared:
        return ()
    samples = now.samples("sample_id", "split", "excluded")
    samples = samples.filter(pc.invert(samples["excluded"]))
    found: list[AttributeCount] = []
    for task in declared:
        labels = now.labels(task.name)
        labels = labels.filter(pc.equal(labels["state"], KNOWN))
        at = pc.index_in(labels["sample_id"], value_set=samples["sample_id"].combine_chunks())
        kept = labels.filter(pc.is_valid(at))
        lists = kept["boxes"].combine_chunks()
        if not len(lists):
            continue
        splits = samples["split"].take(at.drop_null()).combine_chunks()
        counts = pc.list_value_length(lists).fill_null(0).to_numpy()
        boxes = lists.flatten()
        real = pa.array(~ignored_boxes(boxes))
        split = splits.take(pa.array(np.repeat(np.arange(len(lists)), counts))).filter(real)
        stated = pc.struct_field(boxes, "attributes").filter(real)
        for name, says in task.attributes:
            values = pc.map_lookup(stated, name, "first")
            found += _counts(task.name, name, () if isinstance(says, str) else says, split, values)
    return tuple(found)


def is_of_attribute(metric: str) -> bool:
    """Whether a recorded metric is of an attribute of boxes, such as "sign_kind:accuracy", and not of the boxes."""
    return ":" in metric


def stated_values(boxes: pa.StructArray, attribute: str, classes: Sequence[str] = ()) -> Floats:
    """What is known of an attribute of each box [n]: the code of its class, or without `classes` its number.

    NaN where it is unknown, is none of the classes, or is no finite number.

    >>> kind = pa.struct([("attributes", pa.map_(pa.string(), pa.string()))])
    >>> boxes = pa.array([([("lit", "true"), ("height", "2.5")],), (None,)], kind)
    >>> stated_values(boxes, "lit", ("false", "true")).tolist(), stated_values(boxes, "height").tolist()
    ([1.0, nan], [2.5, nan])
    """
    if boxes.type.get_field_index("attributes") < 0 or not len(boxes):
        return np.full(len(boxes), np.nan)
    values = pc.map_lookup(pc.struct_field(boxes, "attributes"), attribute, "first")
    if classes:
        codes = pc.index_in(values, value_set=pa.array(classes, pa.string()))
        return np.asarray(pc.fill_null(pc.cast(codes, pa.float64()), np.nan), np.float64)
    numbers = pc.if_else(_is_number(values), values, pa.scalar(None, pa.string()))
    found = np.asarray(pc.fill_null(pc.cast(numbers, pa.float64()), np.nan), np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def _is_number(values: pa.Array) -> pa.Array:
    return pc.fill_null(pc.match_substring_regex(values, NUMBER), False)


def _counts(
    task: str, name: str, classes: tuple[str, ...], split: pa.Array, values: pa.Array
) -> Iterator[AttributeCount]:
    """The counts of one attribute in each split that has boxes; a value that is no declared class, or no number, is
    unknown."""
    known = (
        pc.is_in(values, value_set=pa.array(classes, pa.string())) if classes
        else _is_number(values)
    )  # fmt: skip
    for part in sorted(pc.unique(split).to_pylist()):
        here = pc.equal(split, part)
        mine = values.filter(pc.and_(here, known))
        counted = {row["values"]: row["counts"] for row in pc.value_counts(mine).to_pylist()} if classes else {}
        yield AttributeCount(
            task=task, attribute=name, split=part or "unsplit", boxes=pc.sum(here).as_py(), known=len(mine),
            counts={each: counted.get(each, 0) for each in classes},
        )  # fmt: skip
