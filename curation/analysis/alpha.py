"""Krippendorff's alpha: how far annotators agree beyond chance (Krippendorff, Content Analysis, 2004, chapter 11).

Written here because the kept library builds an array of samples x classes x classes: 34 s and 7 GB for a million labels
of 30 classes. The tests hold these figures against it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Disagreement", "disagreement"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """Mean squared difference of two labels of one sample, and of any two labels, for each column [C]."""

    observed: Floats
    expected: Floats

    def alpha(self) -> float | None:
        """Alpha over all columns together; for indicators of classes this is nominal alpha. None without variety."""
        expected = self.expected.sum()
        return float(1 - self.observed.sum() / expected) if expected > 0 else None

    def by_column(self) -> list[float | None]:
        """Alpha of each column, None where all labels say the same."""
        known = self.expected > 0
        ratio = np.divide(self.observed, self.expected, out=np.zeros(len(known)), where=known)
        return [float(1 - part) if is_known else None for part, is_known in zip(ratio, known, strict=True)]


def disagreement(sample: Ints, raters: Ints, column: Ints, value: Floats, *, columns: int) -> Disagreement:
    """The disagreement of labels that give each of `columns` a value.

    `raters` [n] counts the labels of each sample, of which those with two or more count. `sample`, `column` and
    `value` [m] say what the labels hold; what is not listed is 0, and so a class that was not said costs nothing. One
    column of numbers gives interval alpha, an indicator for each class nominal alpha, for squared differences of
    indicators are twice the nominal distance.
    """
    paired = raters[sample] >= 2
    sample, column, value = sample[paired], column[paired], value[paired]
    total = int(raters[raters >= 2].sum())
    if total == 0:
        return Disagreement(observed=np.zeros(columns), expected=np.zeros(columns))
    cells, place = np.unique(sample * columns + column, return_inverse=True)
    sums, squares = np.bincount(place, value, len(cells)), np.bincount(place, value**2, len(cells))
    of = raters[cells // columns]
    inside = 2 * (of * squares - sums**2) / (of - 1)
    observed = np.bincount(cells % columns, inside, columns) / total
    sums, squares = (np.bincount(column, part, columns) for part in (value, value**2))
    expected = 2 * (total * squares - sums**2) / (total * (total - 1))
    return Disagreement(observed=observed, expected=expected)
