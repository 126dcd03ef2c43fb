"""Attributes of boxes that a plan's labels state: the constants of their losses, and the values that losses read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.analysis.box_attributes import stated_values
from curation.arrays import Floats, Ints
from curation.catalog.ignored_boxes import ignored_boxes
from samplers.plan.labels import TaskLabels

__all__ = ["BoxAttribute", "attribute_columns", "attribute_outputs", "attribute_values", "learned_attributes"]

MIN_LOSS = 0.01
"""The least loss that divides that of an attribute; so one that is known of few boxes weighs at most 100 times."""


@dataclass(frozen=True, kw_only=True)
class BoxAttribute:
    """An attribute that at least one box of a plan's labels states: one of its `classes`, or a number without them.

    `constant_loss` divides its loss; `mean` and `deviation` standardise a number; `labelled` is the number of boxes of
    each class, or of all boxes with a number.
    """

    name: str
    classes: tuple[str, ...]
    constant_loss: float
    mean: float
    deviation: float
    labelled: tuple[int, ...]

    @classmethod
    def of_words(cls, words: Mapping[str, Any]) -> Self:
        """The attribute as a plan's header states it."""
        return cls(**{**words, "classes": tuple(words["classes"]), "labelled": tuple(words["labelled"])})

    @property
    def outputs(self) -> int:
        """The number of its maps: a logit for each class, or one number."""
        return max(1, len(self.classes))

    def values(self, boxes: pa.StructArray) -> Floats:
        """The attribute of each box [n] as a class code or a standardised number; NaN where it is unknown."""
        return (stated_values(boxes, self.name, self.classes) - self.mean) / self.deviation


def learned_attributes(labels: TaskLabels, q: Floats) -> Iterator[BoxAttribute]:
    """The declared attributes of a task of boxes that at least one box of its labels [L] states.

    Labels are drawn with the probabilities `q` [L]. An image's loss is the sum over its boxes whose attribute is known,
    divided by all of its boxes (at least 1). The constant is the expected loss of the best constant predictor: the
    entropy of the classes, or half the variance of the standardised number, times the weight of the boxes whose
    attribute is known; at least 0.01.
    """
    assert labels.lists is not None, "only boxes have attributes"
    image = np.repeat(np.arange(len(q)), pc.fill_null(pc.list_value_length(labels.lists), 0).to_numpy())
    boxes = labels.lists.flatten()
    real = ~ignored_boxes(boxes)
    image, boxes = image[real], boxes.filter(pa.array(real))
    each = (q / np.maximum(np.bincount(image, minlength=len(q)), 1))[image]
    for name, says in labels.task.attributes:
        classes = () if isinstance(says, str) else says
        values = stated_values(boxes, name, classes)
        known = np.isfinite(values)
        if known.any():
            yield _learned(name, classes, values[known], each[known])


def attribute_outputs(attributes: Sequence[BoxAttribute]) -> int:
    """The number A of maps of these attributes."""
    return sum(each.outputs for each in attributes)


def attribute_columns(attributes: Sequence[BoxAttribute], first: int = 0) -> Iterator[tuple[BoxAttribute, slice]]:
    """Each attribute with its columns, which follow one another from the column `first` on."""
    for each in attributes:
        yield each, slice(first, first + each.outputs)
        first += each.outputs


def attribute_values(boxes: pa.StructArray, tasks: Ints, attributes: Sequence[Sequence[BoxAttribute]]) -> Floats:
    """What is known of the boxes [N] of `tasks` [N]: column k [N, K] is the k-th of the task's `attributes` [T], as
    `BoxAttribute.values`; NaN where it is unknown, or the task has fewer."""
    found = np.full((len(boxes), max(map(len, attributes), default=0)), np.nan)
    for task, own in enumerate(attributes):
        mine = np.flatnonzero(tasks == task) if own else np.zeros(0, np.int64)
        if len(mine):
            part = boxes.take(pa.array(mine))
            found[mine, : len(own)] = np.stack([attribute.values(part) for attribute in own], axis=1)
    return found


def _learned(name: str, classes: tuple[str, ...], values: Floats, weights: Floats) -> BoxAttribute:
    """The attribute with these values [n] of boxes of these weights [n]."""
    mass = float(weights.sum())
    if classes:
        codes = values.astype(np.int64)
        shares = np.bincount(codes, weights, minlength=len(classes)) / max(mass, 1e-300)
        held = shares[shares > 0]
        loss, mean, deviation = -float((held * np.log(held)).sum()), 0.0, 1.0
        labelled = np.bincount(codes, minlength=len(classes)).tolist()
    else:
        mean, deviation = float(values.mean()), max(float(values.std()), 1e-6)
        z = (values - mean) / deviation
        centre = float((weights * z).sum()) / max(mass, 1e-300)
        loss, labelled = 0.5 * float((weights * (z - centre) ** 2).sum()) / max(mass, 1e-300), [len(values)]
    return BoxAttribute(
        name=name, classes=classes, constant_loss=max(MIN_LOSS, mass * loss), mean=mean, deviation=deviation,
        labelled=tuple(labelled),
    )  # fmt: skip
