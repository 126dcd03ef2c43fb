"""Measures of a multilabel task: of one class as of a binary task, and their means over the classes."""

from dataclasses import dataclass
from functools import partial
from typing import Final, Self

import numpy as np

from curation.catalog.tasks import Task
from curation.errors import BadInput
from training.evaluation.labelled_classes import CLASS_METRICS
from training.judging.bounds import Bound, effective_labels
from training.judging.group_sums import PairedSums
from training.judging.measures import POINTS, Measure, f1_terms
from training.judging.paired_runs import AnyPair, PairedClasses, PairedPredictions

__all__ = ["ClassMeasure"]

OF_CLASS: Final = ("ap", "f1", "recall", "precision")


@dataclass(frozen=True, kw_only=True)
class ClassMeasure:
    """A metric of a multilabel task; an interface as that of `Measure`.

    `name` is "map" (the mean over classes of the average precision), "macro_f1" (that of F1), "micro_f1" (F1 of all
    statements together), or one of `OF_CLASS` with the class `code`. A mean leaves out classes
    that no image has; "map" also leaves out classes that every image has.
    """

    task: Task
    name: str
    code: int = -1
    unit: str = POINTS
    scale: float = 100.0
    sign: int = 1

    @classmethod
    def of(cls, task: Task, text: str = "") -> Self:
        """The measure that `text` names, by default the mean average precision; BadInput for any other.

        >>> signs = Task(name="signs", kind="multilabel", classes=("stop", "yield"), owner="ada")
        >>> ClassMeasure.of(signs).name, ClassMeasure.of(signs, "f1:yield").code
        ('map', 1)
        """
        name, _, class_ = (text or CLASS_METRICS[0]).partition(":")
        if name in CLASS_METRICS and not class_:
            return cls(task=task, name=name)
        if name not in OF_CLASS or class_ not in task.classes:
            known = ", ".join((*CLASS_METRICS, *(f"{each}:CLASS" for each in OF_CLASS)))
            raise BadInput(
                f"metric {text!r} of {task.name}: a multilabel task has {known}, with CLASS one of "
                f"{', '.join(task.classes)}; choose one"
            )
        return cls(task=task, name=name, code=task.classes.index(class_))

    @property
    def text(self) -> str:
        """The measure as it is written: "map", "f1:yield"."""
        return self.name if self.code < 0 else f"{self.name}:{self.task.classes[self.code]}"

    def undefined(self, pair: AnyPair) -> str:
        """Why the labels do not define the measure; "" where they do."""
        assert isinstance(pair, PairedClasses)
        if not len(pair.first.rows):
            return "no label is known"
        if self.code >= 0:
            if self.code not in pair.first.classes():
                return f"no image has {self.task.classes[self.code]}"
            return self._binary.undefined(_of_class(pair, self.code))
        if not pair.first.classes():
            return "no image has any of the classes"
        if self.name == "map" and not pair.first.ranked_classes():
            return "every class is there in all images or in none"
        if self.name == "map" and not all(np.isfinite(part.probabilities).all() for part in (pair.first, pair.second)):
            return "a run recorded no probabilities"
        return ""

    def sums(self, pair: AnyPair) -> PairedSums | None:
        """The sums of both runs; None where the labels do not define the measure."""
        assert isinstance(pair, PairedClasses)
        if self.undefined(pair):
            return None
        if self.code >= 0:
            return self._binary.sums(_of_class(pair, self.code))
        if self.name == "micro_f1":
            both = [part.statements() for part in (pair.first, pair.second)]
            return PairedSums.of_shares(both[0], both[1], partial(f1_terms, code=1))
        codes = pair.first.ranked_classes() if self.name == "map" else pair.first.classes()
        parts = [self._class_sums(pair, code) for code in codes]
        return PairedSums.of_means_over(parts, [1 / len(codes)] * len(codes))

    def bound(self, pair: AnyPair, *, z: float) -> Bound:
        """How far the measure of the second run may be below that of the first; the measure must be defined."""
        assert isinstance(pair, PairedClasses)
        if self.code >= 0:
            return self._binary.bound(_of_class(pair, self.code), z=z)
        sums = self.sums(pair)
        assert sums is not None
        image, _ = np.nonzero(pair.first.truth == 1)
        return Bound.of_sums(sums, z=z, effective=effective_labels(pair.first.weights[image], pair.first.groups[image]))

    @property
    def _binary(self) -> Measure:
        """The measure of a class as of the binary task that it is."""
        return Measure(task=_task_of(self.task), name=self.name, code=1)

    def _class_sums(self, pair: PairedClasses, code: int) -> PairedSums:
        if self.name == "macro_f1":
            return PairedSums.of_shares(
                pair.first.confusion(code), pair.second.confusion(code), partial(f1_terms, code=1)
            )
        both = _of_class(pair, code)
        scores = both.first.probabilities[:, 1], both.second.probabilities[:, 1]
        return PairedSums.of_rankings(both.first.truth == 1, scores, both.first.weights, both.first.groups)


def _of_class(pair: PairedClasses, code: int) -> PairedPredictions:
    """One class as a binary task, over the images in which somebody looked for it."""
    both = [part.of_class(code) for part in (pair.first, pair.second)]
    return PairedPredictions(task=_task_of(pair.task), first=both[0], second=both[1])


def _task_of(task: Task) -> Task:
    return Task(name=task.name, kind="binary", owner=task.owner)
