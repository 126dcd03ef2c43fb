"""Measures of a task by name: its own metric, or another that a comparison or a gate names, such as f1:CLASS or map."""

from dataclasses import dataclass
from functools import partial
from typing import Final, Self

import numpy as np

from curation.arrays import Floats
from curation.catalog.tasks import Task
from curation.errors import BadInput
from training.evaluation.metrics import ConfusionSums, MeanSums
from training.evaluation.predictions import LabelledPredictions
from training.judging.bounds import Bound, effective_labels
from training.judging.group_sums import PairedSums
from training.judging.paired_runs import AnyPair, PairedPredictions

__all__ = ["POINTS", "Measure", "f1_terms"]

POINTS: Final = "points"
"""Unit of every share: hundredths."""

PLAIN: Final = ("accuracy", "balanced_accuracy", "map", "macro_f1")
OF_CLASS: Final = ("recall", "precision", "f1", "ap")
TINY: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A metric of one task: `name` is one of `PLAIN`, "mae", or one of `OF_CLASS` with the class `code`.

    `map` is the mean of the average precision (`ap`) of the classes that occur, `macro_f1` that of their F1.
    """

    task: Task
    name: str
    code: int = -1

    @classmethod
    def of(cls, task: Task, text: str = "") -> Self:
        """The measure that `text` names, by default the task's own metric; BadInput for one that it does not have.

        >>> light = Task(name="light", kind="categorical", classes=("red", "yellow"), owner="ada")
        >>> Measure.of(light).name, Measure.of(light, "f1:yellow").code
        ('accuracy', 1)
        """
        name, _, class_ = (text or task.metric).partition(":")
        if task.kind == "regression":
            if text in ("", "mae"):
                return cls(task=task, name="mae")
            raise BadInput(f"metric {text!r} of {task.name}: a regression task has mae; leave it out")
        if name in PLAIN and not class_:
            return cls(task=task, name=name)
        if name not in OF_CLASS or not class_:
            known = ", ".join((*PLAIN, *(f"{each}:CLASS" for each in OF_CLASS)))
            raise BadInput(f"metric {text!r} of {task.name}: unknown; choose one of {known}")
        if class_ not in task.classes:
            raise BadInput(
                f"metric {text!r} of {task.name}: {class_!r} is none of its classes ({', '.join(task.classes)})"
            )
        return cls(task=task, name=name, code=task.classes.index(class_))

    @property
    def text(self) -> str:
        """The measure as it is written: "accuracy", "f1:yellow"."""
        return self.name if self.code < 0 else f"{self.name}:{self.task.classes[self.code]}"

    @property
    def unit(self) -> str:
        """The unit of a difference: points, or that of the task's numbers."""
        return self.task.unit if self.name == "mae" else POINTS

    @property
    def scale(self) -> float:
        """What a value is multiplied with to be in `unit`."""
        return 1.0 if self.name == "mae" else 100.0

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return -1 if self.name == "mae" else 1

    def sums(self, pair: AnyPair) -> PairedSums | None:
        """The sums of both runs; None where the labels do not define the measure (`undefined` says why)."""
        assert isinstance(pair, PairedPredictions)
        if self.undefined(pair):
            return None
        if self.name == "mae":
            return PairedSums.of_errors(*(_errors(part) for part in (pair.first, pair.second)))
        if self.name in ("map", "ap"):
            return self._rankings(pair)
        first, second = (_confusion(self.task, part) for part in (pair.first, pair.second))
        if self.name == "balanced_accuracy":
            return PairedSums.of_recalls(first, second)
        if self.name == "macro_f1":
            codes = np.unique(pair.first.truth).astype(int).tolist()
            parts = [PairedSums.of_shares(first, second, partial(f1_terms, code=code)) for code in codes]
            return PairedSums.of_means_over(parts, [1 / len(codes)] * len(codes))
        return PairedSums.of_shares(first, second, self._terms)

    def bound(self, pair: AnyPair, *, z: float) -> Bound:
        """How far the measure of the second run may be below that of the first; the measure must be defined."""
        assert isinstance(pair, PairedPredictions)
        weights, groups, truth = pair.first.weights, pair.first.groups, pair.first.truth
        if self.name == "mae":
            worst = float(np.maximum(pair.first.errors, pair.second.errors).max())
            return Bound.of_losses(
                pair.second.errors - pair.first.errors, weights, groups, z=z, scale=max(worst, TINY),
                rarest=float(np.abs(truth - np.median(truth)).mean()),
            )  # fmt: skip
        right = [(part.errors == 0).astype(np.float64) for part in (pair.first, pair.second)]
        if self.name == "accuracy":
            return Bound.of_losses(right[0] - right[1], weights, groups, z=z)
        if self.name in ("balanced_accuracy", "recall"):
            codes = np.unique(truth).tolist() if self.name == "balanced_accuracy" else [self.code]
            parts = [
                Bound.of_losses((right[0] - right[1])[own], weights[own], groups[own], z=z)
                for own in (truth == code for code in codes)
            ]
            return Bound.of_parts(parts, [1 / len(parts)] * len(parts))
        sums = self.sums(pair)
        assert sums is not None
        own = truth == self.code if self.code >= 0 else np.ones(len(truth), np.bool_)
        return Bound.of_sums(sums, z=z, effective=effective_labels(weights[own], groups[own]))

    def undefined(self, pair: AnyPair) -> str:
        """Why the labels do not define the measure; "" where they do."""
        assert isinstance(pair, PairedPredictions)
        if not len(pair.first.rows):
            return "no label is known"
        codes = np.unique(pair.first.truth)
        if self.name == "recall" and self.code not in codes:
            return f"no label is {self.task.classes[self.code]}"
        if self.name in ("map", "ap", "f1", "macro_f1", "precision"):
            if len(codes) < 2:
                return f"all labels are {self.task.classes[int(codes[0])]}"
            if self.code >= 0 and self.code not in codes:
                return f"no label is {self.task.classes[self.code]}"
        if self.name in ("map", "ap") and not np.isfinite([pair.first.probabilities, pair.second.probabilities]).all():
            return "a run recorded no probabilities"
        return ""

    def _rankings(self, pair: PairedPredictions) -> PairedSums:
        codes = [self.code] if self.code >= 0 else np.unique(pair.first.truth).astype(int).tolist()
        parts = [
            PairedSums.of_rankings(
                pair.first.truth == code, (pair.first.probabilities[:, code], pair.second.probabilities[:, code]),
                pair.first.weights, pair.first.groups,
            )
            for code in codes
        ]  # fmt: skip
        return PairedSums.of_means_over(parts, [1 / len(codes)] * len(codes)) if len(parts) > 1 else parts[0]

    def _terms(self, sums: ConfusionSums) -> tuple[Floats, Floats]:
        """How often each cell of the confusion sums counts as a hit, and in the total."""
        if self.name == "f1":
            return f1_terms(sums, self.code)
        side = sums.predicted if self.name == "precision" else sums.truth
        own = np.ones(len(side)) if self.name == "accuracy" else (side == self.code).astype(np.float64)
        return own * (sums.truth == sums.predicted), own


def f1_terms(sums: ConfusionSums, code: int) -> tuple[Floats, Floats]:
    """F1 of a class as a share: twice the true positives over labels and predictions of it."""
    times = (sums.truth == code).astype(np.float64) + (sums.predicted == code)
    return np.where(times == 2, times, 0.0), times


def _confusion(task: Task, part: LabelledPredictions) -> ConfusionSums:
    return ConfusionSums.of(len(task.classes), part.truth, part.predicted, part.weights, part.groups)


def _errors(part: LabelledPredictions) -> MeanSums:
    return MeanSums.of(part.errors, part.weights, part.groups)
