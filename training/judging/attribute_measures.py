"""Measures of an attribute of boxes: how it is read at known boxes, and how many of these are found."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from curation.arrays import Bools, Floats, Ints
from curation.catalog.tasks import Task
from curation.errors import BadInput
from training.evaluation.attribute_sums import AttributeSums
from training.evaluation.metrics import MeanSums
from training.judging.bounds import Bound
from training.judging.group_sums import PairedSums
from training.judging.measures import POINTS
from training.judging.paired_runs import AnyPair, PairedBoxes

__all__ = ["AttributeMeasure", "attribute_metrics"]

RECALL: Final = "recall"
TINY: Final = 1e-9


def attribute_metrics(task: Task) -> list[str]:
    """The metrics of the attributes that a task of boxes declares: "kind:accuracy" of classes and "height:mae" of
    numbers, of boxes given, and for each "NAME:recall".

    >>> words = {"name": "signs", "kind": "detection", "classes": ("sign",), "owner": "ada"}
    >>> attribute_metrics(Task.model_validate({**words, "attributes": {"height": "m"}}))
    ['height:mae', 'height:recall']
    """
    return [
        f"{name}:{metric}" for name, says in task.attributes
        for metric in ("mae" if isinstance(says, str) else "accuracy", RECALL)
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AttributeMeasure:
    """A metric of one attribute of boxes (`attribute_metrics`); an interface as that of `Measure`.

    Boxes count whose attribute is known; of boxes given, those for which both runs predicted it as they are now.
    """

    task: Task
    attribute: str
    name: str

    @classmethod
    def of(cls, task: Task, text: str) -> Self:
        """The measure that `text` names; BadInput for any other."""
        if text not in attribute_metrics(task):
            known = ", ".join(attribute_metrics(task))
            raise BadInput(f"metric {text!r} of {task.name}: its attributes have {known}; choose one")
        attribute, _, name = text.rpartition(":")
        return cls(task=task, attribute=attribute, name=name)

    @property
    def text(self) -> str:
        """The measure as it is written."""
        return f"{self.attribute}:{self.name}"

    @property
    def unit(self) -> str:
        """The unit of a difference: points, or that of the attribute's numbers."""
        return str(dict(self.task.attributes)[self.attribute]) if self.name == "mae" else POINTS

    @property
    def scale(self) -> float:
        """What a value is multiplied with to be in `unit`."""
        return 1.0 if self.name == "mae" else 100.0

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return -1 if self.name == "mae" else 1

    def undefined(self, pair: AnyPair) -> str:
        """Why the labels do not define the measure; "" where they do."""
        both = self._both(pair)
        if both is None:
            return f"a run does not predict {self.attribute}"
        if not len(both[0].truth):
            return f"{self.attribute} is known of no box"
        return "" if self._judged(both).any() else "its boxes have changed since a run predicted; evaluate it again"

    def sums(self, pair: AnyPair) -> PairedSums | None:
        """The sums of both runs; None where the labels do not define the measure."""
        if self.undefined(pair):
            return None
        first, second, weights, groups = self._values(pair)
        parts = [MeanSums.of(value, weights, groups) for value in (first, second)]
        return PairedSums.of_means(parts[0], parts[1], sign=self.sign)

    def bound(self, pair: AnyPair, *, z: float) -> Bound:
        """How far the measure of the second run may be below that of the first; the measure must be defined."""
        first, second, weights, groups = self._values(pair)
        worse = self.sign * (first - second)
        if self.name != "mae":
            return Bound.of_losses(worse, weights, groups, z=z)
        both = self._both(pair)
        assert both is not None
        truth = both[0].truth[self._judged(both)]
        return Bound.of_losses(
            worse, weights, groups, z=z, scale=max(float(np.maximum(first, second).max()), TINY),
            rarest=float(np.abs(truth - np.median(truth)).mean()),
        )  # fmt: skip

    def _both(self, pair: AnyPair) -> tuple[AttributeSums, AttributeSums] | None:
        """What both runs predict of the same known boxes; None where one does not predict the attribute."""
        assert isinstance(pair, PairedBoxes)
        first, second = (part.attributes.get(self.attribute) for part in (pair.first, pair.second))
        return None if first is None or second is None else (first, second)

    def _judged(self, both: tuple[AttributeSums, AttributeSums]) -> Bools:
        """The boxes [k] that count."""
        if self.name == RECALL:
            return np.ones(len(both[0].truth), np.bool_)
        return np.asarray(np.isfinite(both[0].given) & np.isfinite(both[1].given), np.bool_)

    def _values(self, pair: AnyPair) -> tuple[Floats, Floats, Floats, Ints]:
        """Of each judged box what either run adds to the mean, its weight and its group."""
        both = self._both(pair)
        assert both is not None
        here = self._judged(both)
        values = [self._value(part)[here] for part in both]
        return values[0], values[1], both[0].weights[here], both[0].groups[here]

    def _value(self, part: AttributeSums) -> Floats:
        if self.name == RECALL:
            return part.hit.astype(np.float64)
        errors = np.abs(part.given - part.truth)
        return errors if self.name == "mae" else (errors == 0).astype(np.float64)
