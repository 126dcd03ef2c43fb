"""Labels only where two runs disagree: elsewhere their difference is exactly 0.

The difference of two runs on one image is 1 where the run is right and the base is wrong, -1 where it is the other way
round, and 0 otherwise; for numbers it is how much closer the run is. Its mean over the test images is that over the
disagreeing ones, estimated from labels drawn among them, times their share. So equally wide intervals take about 1 /
(share of disagreeing images) times fewer labels than labels drawn from all. (Sawade, Landwehr & Scheffer 2012, "Active
comparison of prediction models", draw by the same size.)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from curation.arrays import Bools, Floats, Ints
from training.evaluation.drawn_labels import Batch, answered, label_weights
from training.evaluation.intervals import NOT_ENOUGH_DATA, Figure, share_of_variance
from training.judging.difference_estimator import Pool

__all__ = ["FEWEST", "PairedImages", "difference_where_labelled", "disagreement_reason", "gains"]

FEWEST = 20
"""Labels of disagreeing images below which no difference is estimated, unless all of them are labelled."""


@dataclass(frozen=True, kw_only=True)
class PairedImages:
    """What two runs predict for the same P images: class codes or numbers [P], and the class probabilities [P, C] of
    each (NaN where a run recorded none; C = 0 for numbers)."""

    run: Floats
    base: Floats
    run_chances: Floats
    base_chances: Floats

    @property
    def differs(self) -> Bools:
        """Where the two disagree [P]."""
        return np.asarray(self.run != self.base, np.bool_)

    def at(self, here: Bools) -> Self:
        """Only the images that `here` [P] marks."""
        return type(self)(**{name: value[here] for name, value in vars(self).items()})

    def expected_square(self) -> Floats:
        """The expected square of the difference [P], 0 where the runs agree.

        A class is as probable as the mean of the two runs says, and the difference is not 0 if one of the two predicted
        classes is right. For numbers it is the square of the largest difference there can be: the distance of the two
        predictions.
        """
        classes = self.run_chances.shape[1]
        if not classes:
            return np.asarray((self.run - self.base) ** 2, np.float64)
        chances, every = (
            np.nan_to_num((self.run_chances + self.base_chances) / 2, nan=1 / classes),
            np.arange(len(self.run)),
        )
        right = sum(chances[every, codes.astype(np.int64)] for codes in (self.run, self.base))
        return np.where(self.differs, right, 0.0)

    def sizes(self) -> Floats:
        """The sizes [P] in proportion to which images are drawn, 0 where the runs agree: the root of the expected
        square, and for numbers a quarter of its mean more, so that a small distance has no large weight."""
        root = np.sqrt(self.expected_square())
        more = 0.0 if self.run_chances.shape[1] or not self.differs.any() else root[self.differs].mean() / 4
        return np.where(self.differs, root + more, 0.0)


def disagreement_reason(run: str, base: str) -> str:
    """The reason of a request where these two runs disagree; the same for both orders."""
    return "runs {} and {} disagree".format(*sorted((run, base)))


def gains(pair: PairedImages, truth: Floats) -> Floats:
    """The difference [P] by the labels `truth` [P] (NaN: unknown); positive where the run is better, and NaN where the
    runs disagree and the label is unknown.

    >>> none, run, base = np.empty((3, 0)), np.array([1.0, 1.0, 5.0]), np.array([1.0, 4.0, 2.0])
    >>> pair = PairedImages(run=run, base=base, run_chances=none, base_chances=none)
    >>> gains(pair, np.array([np.nan, 2.0, np.nan])).tolist()
    [0.0, 1.0, nan]
    """
    classes = pair.run_chances.shape[1] > 0
    errors = [(np.abs(part - truth) > 0) * 1.0 if classes else np.abs(part - truth) for part in (pair.run, pair.base)]
    found = np.where(np.isnan(truth), np.nan, errors[1] - errors[0])
    return np.where(pair.differs, found, 0.0)


def difference_where_labelled(
    pair: PairedImages, truth: Floats, weights: Floats, groups: Ints, batches: Sequence[Batch]
) -> Figure:
    """The mean difference of two runs over P images, with a 95% interval for these images.

    `truth` [P] are labels (NaN: unknown), `weights` [P] those of the images, `batches` the requests that were drawn
    among the disagreeing images, with rows among the P. `n` and `groups` are those of the labelled disagreeing images.
    Where fewer than 20 are labelled, and not all, the value is None.
    """
    differs, value = np.flatnonzero(pair.differs), gains(pair, truth)
    known: Ints = differs[np.isfinite(value[differs])]
    n, groups_seen = len(known), len(np.unique(groups[known]))
    if n < min(FEWEST, len(differs)) or not len(weights):
        return replace(NOT_ENOUGH_DATA, n=n, groups=groups_seen)
    counted = answered(batches, known, pair.differs)
    expansion = label_weights(batches, known, pair.differs)
    if n < len(differs) and not counted:
        return replace(NOT_ENOUGH_DATA, n=n, groups=groups_seen)
    pool = Pool(weights=weights, labelled=known, expansion=expansion, answers=counted)
    return replace(_figure(pool, pair, value[known]), n=n, groups=groups_seen)


def _figure(pool: Pool, pair: PairedImages, values: Floats) -> Figure:
    """The mean over all images, from the `values` [n] of the labelled ones among those where the runs disagree."""
    whole, inside, size = float(pool.weights.sum()), float(pool.weights[pair.differs].sum()), int(pair.differs.sum())
    if not len(values):
        return Figure(value=0.0, low=0.0, high=0.0, n=0, groups=0)
    if len(values) == size:
        value = float(pool.weights[pool.labelled] @ values) / whole
        return Figure(value=value, low=value, high=value, n=0, groups=0)
    if not pair.run_chances.shape[1]:
        return _mean_of_numbers(pool, values, whole)
    mean = float(np.average(values, weights=pool.weights[pool.labelled] * pool.expansion))
    floor = np.maximum(pair.expected_square() - mean**2, 0.0)
    variance = pool.variance(values - mean, floor) / inside**2
    drawn = sum(len(batch.at) for batch in pool.answers)
    figure = share_of_variance((1 + mean) / 2, variance / 4, drawn / (1 - drawn / size), n=size, groups=2)
    edges = {name: (2 * float(getattr(figure, name)) - 1) * inside / whole for name in ("low", "high")}
    return Figure(value=mean * inside / whole, **edges, n=0, groups=0)


def _mean_of_numbers(pool: Pool, values: Floats, whole: float) -> Figure:
    """The same for differences of absolute errors, with Student's interval."""
    from scipy import stats

    value = pool.total(np.zeros(len(pool.weights)), values) / whole
    half = float(stats.t.ppf(0.975, len(values) - 1)) * pool.variance(values) ** 0.5 / whole
    return Figure(value=value, low=value - half, high=value + half, n=0, groups=0)
