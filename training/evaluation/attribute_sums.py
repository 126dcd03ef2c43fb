"""How attributes of boxes are predicted: of known boxes at their centres, and of those that the run finds itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.analysis.box_attributes import stated_values
from curation.arrays import Bools, Floats, Ints
from curation.catalog.tasks import Task
from training.evaluation.box_matching import Boxes, finders
from training.evaluation.intervals import Figure, mean_of, proportion

__all__ = ["AttributeSums", "attribute_sums"]

OTHER = -1.0
"""The code of a predicted class that is not declared any more: it is never right."""


@dataclass(frozen=True, kw_only=True)
class AttributeSums:
    """Of the k known boxes of images whose attribute is known: `images`, `groups`, `weights` (that of the image) and
    the `truth`, a class code or, where `classes` is empty, a number.

    `given` is what the run predicts of the box at its centre; `found` what is predicted of the box that finds it, and
    `hit` whether one does: a box of its class with an overlap of at least one half, the highest scores first. NaN where
    nothing is predicted. `a + b` is the sums of both, of different images.
    """

    classes: tuple[str, ...]
    images: Ints
    groups: Ints
    weights: Floats
    truth: Floats
    given: Floats
    found: Floats
    hit: Bools

    def __add__(self, other: Self) -> Self:
        return self._with(
            {name: np.concatenate([value, getattr(other, name)]) for name, value in self._columns().items()}
        )

    def weighted(self, weights: Floats) -> Self:
        """The same with other weights, indexed by the numbers of images; images of weight 0 are left out."""
        kept = weights[self.images] > 0
        parts = {name: value[kept] for name, value in self._columns().items()}
        return self._with({**parts, "weights": weights[parts["images"]]})

    @property
    def metric(self) -> str:
        """ "accuracy", or "mae" for numbers."""
        return "accuracy" if self.classes else "mae"

    def figures(self) -> dict[str, Figure]:
        """The accuracy (for numbers the mean absolute error) of the boxes given, that of the boxes found, and the share
        of boxes that are found ("recall"), over boxes whose attribute is known, with 95% intervals over groups."""
        recall = proportion(self.hit.astype(np.float64), self.weights, self.groups)
        return {
            self.metric: self._of(self.given), f"{self.metric}_found": self._of(np.where(self.hit, self.found, np.nan)),
            "recall": recall,
        }  # fmt: skip

    def confusion(self) -> Ints:
        """How many boxes of each true class (row) the run reads at their centres as each class [C, C]."""
        here = np.isfinite(self.given) & (self.given >= 0)
        found = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(found, (self.truth[here].astype(np.int64), self.given[here].astype(np.int64)), 1)
        return found

    def of_class(self, code: int) -> Self:
        """Only the boxes of one class."""
        return self._with({name: value[self.truth == code] for name, value in self._columns().items()})

    def _of(self, predicted: Floats) -> Figure:
        here = np.isfinite(predicted)
        weights, groups, errors = self.weights[here], self.groups[here], np.abs(predicted - self.truth)[here]
        if self.classes:
            return proportion((errors == 0).astype(np.float64), weights, groups)
        return mean_of(errors, weights, groups)

    def _columns(self) -> dict[str, Floats]:
        return {name: value for name, value in vars(self).items() if name != "classes"}

    def _with(self, columns: Mapping[str, Floats]) -> Self:
        return type(self)(**{**vars(self), **columns})


def attribute_sums(
    task: Task, known: tuple[Boxes, pa.Array], predicted: tuple[Boxes, pa.Array], given: tuple[Boxes, pa.Array],
    weights: Floats, groups: Ints,
) -> dict[str, AttributeSums]:  # fmt: skip
    """The sums of each declared attribute that the predictions state, from boxes and what Arrow holds of each.

    `given` are known boxes as they were when the run predicted: only those that are known like that still are judged.
    `weights` and `groups` are indexed by the numbers of images.
    """
    stated = _stated(predicted[1]) | _stated(given[1])
    attributes = [(name, says) for name, says in task.attributes if name in stated]
    if not attributes:
        return {}
    real = ~known[0].crowd
    boxes, rows = known[0].taken(real), known[1].filter(pa.array(real))
    by, read = finders(predicted[0], known[0])[real], _places(boxes, given[0])
    found = {}
    for name, says in attributes:
        classes = () if isinstance(says, str) else says
        truth = stated_values(rows, name, classes)
        here = np.isfinite(truth)
        images = boxes.images[here]
        found[name] = AttributeSums(
            classes=classes, images=images, groups=groups[images], weights=weights[images], truth=truth[here],
            given=_taken(_predicted(given[1], name, classes), read[here]), hit=by[here] >= 0,
            found=_taken(_predicted(predicted[1], name, classes), by[here]),
        )  # fmt: skip
    return found


def _stated(boxes: pa.Array) -> set[str]:
    """The names of the attributes that boxes state."""
    if boxes.type.get_field_index("attributes") < 0 or not len(boxes):
        return set()
    stated = pc.struct_field(boxes, "attributes")
    return set(pc.unique(stated.drop_null().keys).to_pylist())


def _predicted(boxes: pa.Array, name: str, classes: Sequence[str]) -> Floats:
    """What is predicted of an attribute of each box [n]; `OTHER` for a class that is not declared."""
    found = stated_values(boxes, name, classes)
    if classes and len(found):
        texts = pc.map_lookup(pc.struct_field(boxes, "attributes"), name, "first")
        found = np.where(np.isnan(found) & texts.is_valid().to_numpy(zero_copy_only=False), OTHER, found)
    return found


def _taken(values: Floats, places: Ints) -> Floats:
    """The values at these places [k]; NaN at -1."""
    return np.append(values, np.nan)[places]


def _places(boxes: Boxes, given: Boxes) -> Ints:
    """The place among `given` of a box that is the same as each of `boxes` [k]; -1 where there is none."""
    both = [np.column_stack([part.images, part.codes, part.corners]) for part in (boxes, given)]
    _, codes = np.unique(np.concatenate(both), axis=0, return_inverse=True)
    places = np.full(len(codes), -1, np.int64)
    places[codes[len(boxes.codes) :]] = np.arange(len(given.codes))
    return np.asarray(places[codes[: len(boxes.codes)]], np.int64)
