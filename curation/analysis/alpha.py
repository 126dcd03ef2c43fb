"""Krippendorff's alpha: how far annotators agree beyond chance (Krippendorff, Content Analysis, 2004, chapter 11).

Written here because the `krippendorff` package builds an array of samples x classes x classes: 34 s and 7 GB for a
million labels of 30 classes. The tests compare the two.
"""

from dataclasses import dataclass

import numpy as np

from curation.arrays import Floats, Ints

__all__ = ["Disagreement", "disagreement"]


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """Mean squared difference between two labels of one sample, and between any two labels, for each column [C]."""

    observed: Floats
    expected: Floats

    def alpha(self) -> float | None:
        """Alpha over all columns (nominal alpha if they indicate classes); None if all labels are alike."""
        expected = self.expected.sum()
        return float(1 - self.observed.sum() / expected) if expected > 0 else None

    def by_column(self) -> list[float | None]:
        """Alpha of each column; None where all labels are alike."""
        known = self.expected > 0
        ratio = np.divide(self.observed, self.expected, out=np.zeros(len(known)), where=known)
        return [float(1 - part) if is_known else None for part, is_known in zip(ratio, known, strict=True)]


def disagreement(sample: Ints, raters: Ints, column: Ints, value: Floats, *, columns: int) -> Disagreement:
    """Observed and expected disagreement of labels that have a value in each of `columns` columns.

    `raters` [n] counts the labels of each sample; only samples with two or more are used. `sample`, `column` and
    `value` [m] list the values of the labels; a value that is not listed is 0. One column of numbers gives interval
    alpha. One indicator column a class gives nominal alpha, because squared differences of indicators are twice the
    nominal distance.

    >>> sample, raters = np.array([0, 0, 1, 1]), np.array([2, 2])  # two annotators agree on both samples
    >>> disagreement(sample, raters, np.array([0, 0, 1, 1]), np.ones(4), columns=2).alpha()
    1.0
    """
    paired = raters[sample] >= 2
    sample, column, value = sample[paired], column[paired], value[paired]
    total = int(raters[raters >= 2].sum())
    if total == 0:
        return Disagreement(observed=np.zeros(columns), expected=np.zeros(columns))
    cells, cell_of = np.unique(sample * columns + column, return_inverse=True)
    sums, squares = np.bincount(cell_of, value, len(cells)), np.bincount(cell_of, value**2, len(cells))
    count = raters[cells // columns]
    inside = 2 * (count * squares - sums**2) / (count - 1)
    observed = np.bincount(cells % columns, inside, columns) / total
    sums, squares = (np.bincount(column, part, columns) for part in (value, value**2))
    expected = 2 * (total * squares - sums**2) / (total * (total - 1))
    return Disagreement(observed=observed, expected=expected)
