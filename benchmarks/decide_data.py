"""Two runs of which the truth is known: whether each label of a burst is predicted right, simulated."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from training.evaluation.metrics import ConfusionSums, MeanSums
from training.judging.group_sums import PairedSums

__all__ = ["BURST", "Bools", "Floats", "Ints", "Pair", "bursts", "overlapping_slices", "together"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BURST = 5
"""Images of a burst."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Of n labels: their group, whether each run is right (or the size of its error), and the class of each."""

    groups: Ints
    first: Floats
    second: Floats
    classes: Ints

    def at(self, here: Bools) -> Self:
        """Only the labels that `here` [n] marks."""
        return type(self)(**{name: value[here] for name, value in vars(self).items()})

    @property
    def accuracy(self) -> PairedSums:
        """The sums of accuracy; `first` and `second` are 0 or 1."""
        sums = [self._confusion(1.0 - part) for part in (self.first, self.second)]
        return PairedSums.of_shares(
            sums[0], sums[1], lambda part: (part.truth == part.predicted, np.ones(len(part.truth)))
        )

    @property
    def errors(self) -> PairedSums:
        """The sums of the mean absolute error; `first` and `second` are errors."""
        ones = np.ones(len(self.groups))
        return PairedSums.of_errors(*(MeanSums.of(part, ones, self.groups) for part in (self.first, self.second)))

    def _confusion(self, predicted: Floats) -> ConfusionSums:
        n = len(predicted)
        return ConfusionSums.of(2, np.zeros(n), predicted, np.ones(n), self.groups)


def bursts(groups: int) -> Ints:
    """The group of each image: bursts of 5."""
    return np.repeat(np.arange(groups), BURST)


def together(generator: np.random.Generator, groups: int, rate: float, icc: float) -> Floats:
    """1 for each image [5 groups] that fails, at `rate`; images of a burst are correlated by `icc` (1: as one)."""
    if rate <= 0:
        return np.zeros(groups * BURST)
    if icc >= 1:
        return np.repeat(generator.random(groups) < rate, BURST).astype(np.float64)
    if icc <= 0:
        return (generator.random(groups * BURST) < rate).astype(np.float64)
    chance = generator.beta(rate * (1 - icc) / icc, (1 - rate) * (1 - icc) / icc, groups)
    return (generator.random(groups * BURST) < np.repeat(chance, BURST)).astype(np.float64)


def overlapping_slices(generator: np.random.Generator, groups: int, count: int) -> list[Bools]:
    """Masks of images [5 groups]: everything, values of attributes of whole bursts, of images, and their intersections.

    Their shares are between 2% and 60%, none in fewer than 8 bursts.
    """
    found = [np.ones(groups * BURST, np.bool_)]
    attributes = [np.repeat(generator.random(groups) < share, BURST) for share in (0.6, 0.4, 0.3, 0.2, 0.1)]
    attributes += [generator.random(groups * BURST) < share for share in (0.5, 0.3, 0.1)]
    while len(found) < count:
        chosen = generator.choice(len(attributes), generator.integers(1, 4), replace=False)
        part = np.logical_and.reduce([attributes[place] for place in chosen])
        if len(np.unique(np.flatnonzero(part) // BURST)) >= 8 and part.mean() >= 0.02:
            found.append(part)
    return found
