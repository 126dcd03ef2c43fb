"""The error of a run on a slice from few labels: drawn where the run is unsure, with the difference estimator.

A run that is right with probability 1 - q on an image errs there with variance q (1 - q). So labels are drawn in
proportion to its root, with a uniform share that bounds the weights (Kossen et al. 2021, "Active testing"), and only
what the run does not expect is estimated from them. For a slice that the label itself decides, the error is a ratio of
two sums, and the residuals are linearised.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from curation.arrays import Bools, Floats, Ints
from training.evaluation.drawn_labels import Batch, answered, label_weights
from training.evaluation.intervals import NOT_ENOUGH_DATA, Figure, share_of_variance
from training.judging.difference_estimator import Pool

__all__ = ["FEWEST_ERRORS", "FEWEST_GROUPS", "ErrorEstimate", "PoolPredictions", "estimated_error", "estimated_mean"]

FEWEST_ERRORS, FEWEST_GROUPS = 20, 40
"""Seen errors and groups below which an interval covers too rarely, so no error is estimated."""
UNIFORM_SHARE = 0.3
"""The share of the labels that is drawn whatever the run predicts."""


@dataclass(frozen=True, kw_only=True)
class PoolPredictions:
    """What a run predicts for P images: class codes [P] and class probabilities [P, C]; and whether an image would be
    `inside` the slice if its label were class c [P, C]."""

    predicted: Ints
    chances: Floats
    inside: Bools

    def expected(self) -> tuple[Floats, Floats]:
        """The probability [P] of being inside and wrong, and of being inside."""
        chances = self.chances * self.inside
        right = chances[np.arange(len(chances)), self.predicted]
        within = chances.sum(axis=1)
        return np.maximum(within - right, 0.0), within

    def variance(self, error: float) -> Floats:
        """The run's own variance [P] of (wrong - `error`) inside the slice, 0 outside."""
        wrong, within = self.expected()
        mean = wrong - error * within
        square = wrong * (1 - error) ** 2 + (within - wrong) * error**2
        return np.maximum(square - mean**2, 0.0)

    def sizes(self, weights: Floats) -> Floats:
        """The sizes [P] in proportion to which images of these `weights` [P] are drawn; 0 where none can be inside."""
        wrong, within = self.expected()
        could = self.inside.any(axis=1)
        error = float(weights @ wrong) / max(float(weights @ within), 1e-300)
        sizes = np.where(could, np.sqrt(self.variance(error)) * weights, 0.0)
        total, even = float(sizes.sum()), np.where(could, weights, 0.0)
        share = UNIFORM_SHARE if total > 0 else 1.0
        return np.asarray((1 - share) * sizes / max(total, 1e-300) + share * even / max(float(even.sum()), 1e-300))


@dataclass(frozen=True, kw_only=True)
class ErrorEstimate:
    """The estimated error with its 95% interval for these images, from n labels of `figure.groups` groups, among which
    `errors` were seen. The value is None where they are too few."""

    figure: Figure
    errors: int

    @property
    def missing(self) -> str:
        """What is too little, in words; "" where there is an estimate."""
        if self.figure.value is not None:
            return ""
        return (
            f"{self.errors} errors in {self.figure.groups} groups are seen; "
            f"an estimate takes {FEWEST_ERRORS} errors and {FEWEST_GROUPS} groups"
        )


def estimated_error(
    pool: PoolPredictions, truth: Floats, weights: Floats, groups: Ints, batches: Sequence[Batch], *,
    fewest: tuple[int, int] = (FEWEST_ERRORS, FEWEST_GROUPS),
) -> ErrorEstimate:  # fmt: skip
    """The share of P images inside a slice that are predicted wrong.

    `truth` [P] are class codes (NaN: unknown), `weights` [P] those of the images, `groups` [P] codes, `batches` the
    requests that were drawn, with rows among the P. `fewest` errors and groups must be seen.
    """
    made = _pool(truth, weights, batches)
    codes = truth[made.labelled].astype(np.int64)
    z: Floats = pool.inside[made.labelled, codes].astype(np.float64)
    y = z * (pool.predicted[made.labelled] != codes)
    counted = (made.expansion > 0) & (z > 0)
    seen = Figure(
        value=None, low=None, high=None, n=int(counted.sum()), groups=len(np.unique(groups[made.labelled][counted]))
    )
    errors = int(y[counted].sum())
    complete = len(made.labelled) == len(truth)
    if not complete and (errors < fewest[0] or seen.groups < fewest[1]):
        return ErrorEstimate(figure=seen, errors=errors)
    m_y, m_z = pool.expected()
    inside = made.total(m_z, z)
    error = min(1.0, max(0.0, made.total(m_y, y) / inside)) if inside > 0 else 0.0
    residuals = (y - m_y[made.labelled]) - error * (z - m_z[made.labelled])
    variance = made.variance(residuals, pool.variance(error)) / max(inside, 1e-300) ** 2
    if complete:
        figure = Figure(value=error, low=error, high=error, n=0, groups=0)
    else:
        spread = variance if 0 < error < 1 else 0.0  # an estimate that was cut at an end has no share to scale by
        figure = share_of_variance(error, spread, max(1.0, float(seen.n)), n=len(truth), groups=seen.groups)
    return ErrorEstimate(figure=replace(figure, n=seen.n, groups=seen.groups), errors=errors)


def estimated_mean(errors: Floats, weights: Floats, groups: Ints, batches: Sequence[Batch]) -> ErrorEstimate:
    """The mean absolute error over P images from the `errors` [P] of the labelled ones (NaN: unknown), drawn alike.

    With Student's interval. Only the groups are counted: of numbers nearly all are a little wrong.
    """
    from scipy import stats

    made = _pool(errors, weights, batches)
    counted = made.expansion > 0
    seen = replace(NOT_ENOUGH_DATA, n=int(counted.sum()), groups=len(np.unique(groups[made.labelled][counted])))
    complete = len(made.labelled) == len(errors)
    if not complete and seen.groups < FEWEST_GROUPS:
        return ErrorEstimate(figure=seen, errors=seen.n)
    values = errors[made.labelled]
    mean = float(np.average(values, weights=made.weights[made.labelled] * made.expansion))
    spread = 0.0 if complete else made.variance(values - mean) ** 0.5 / float(weights.sum())
    half = float(stats.t.ppf(0.975, max(1, seen.n - 1))) * spread
    return ErrorEstimate(figure=replace(seen, value=mean, low=mean - half, high=mean + half), errors=seen.n)


def _pool(known: Floats, weights: Floats, batches: Sequence[Batch]) -> Pool:
    """The images with those that have a `known` value [P] (NaN: unknown) as the labelled ones."""
    labelled = np.flatnonzero(np.isfinite(known))
    every = np.ones(len(known), np.bool_)
    return Pool(
        weights=weights, labelled=labelled, expansion=label_weights(batches, labelled, every),
        answers=answered(batches, labelled, every),
    )  # fmt: skip
