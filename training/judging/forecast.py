"""How many labels a figure takes to reach a target: a posterior over learning curves.

The error after n labels is c + a n^-b (Mahmood et al., "How much more data do I need?", CVPR 2022). The posterior is
computed on a grid of the floor c, the error at the largest point, and the exponent b. A share is beta-binomial at its
effective number of labels, so that it varies more than a binomial one; a number is normal. Both allow the curve to be
wrong by `MISFIT` of the error at each point, the target's too. All points are judged by much the same labels, so most
of what these labels say too much or too little is common to all points (`COMMON`): it moves the target, not the shape
of the curve.

Far ahead the floor decides, and few points tell little about it: the upper end is often infinite, and the lower end is
what can be promised. The settings were chosen on mixtures of Gaussians (benchmarks/ask_forecast.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from curation.arrays import Floats
from curation.errors import BadInput
from training.evaluation.intervals import Figure, Z

__all__ = ["FEWEST", "HORIZON", "CurvePoint", "Forecast", "check_target", "forecast", "is_share", "learning_curves"]

FEWEST: Final = 3
"""Numbers of labels that a curve takes."""
HORIZON: Final = 100.0
"""What takes more than so many times as many labels is not in reach: no curve was ever followed so far."""
MISFIT: Final = 0.15
"""Standard deviation of the error around the curve, as a part of the error."""
COMMON: Final = 0.9
"""The part of the variance of a figure, by its judged labels, that all points share."""
FLOORED: Final = 2.0
"""The prior of the floor, as a part f of the error at the largest point, falls as exp(-2 f)."""
LOW, MIDDLE, HIGH = 0.05, 0.5, 0.95
"""Quantiles of the number of labels."""
EXPONENTS: Final = np.linspace(0.05, 1.5, 16)
FLOORS: Final = np.linspace(0.0, 0.98, 25)
LEVELS: Final = np.exp(np.linspace(math.log(0.4), math.log(2.5), 25))
"""Errors at the largest point, over the smallest that was observed."""
MOVES: Final = np.array([-1.5, -0.75, 0.0, 0.75, 1.5])
"""Standard deviations by which the error at a target may be off its curve."""
TINY: Final = 1e-9

Verdict = Literal["reached", "perhaps reached", "at least", "not in reach"]


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """A figure after `labels` labels, with its 95% interval over n judged labels; `run` is "" where it was refitted."""

    labels: int
    value: float
    low: float
    high: float
    n: int
    run: str = ""

    @classmethod
    def of(cls, labels: int, figure: Figure, run: str = "") -> "CurvePoint | None":
        """The point of a figure; None for one without an interval."""
        if figure.value is None or figure.low is None or figure.high is None:
            return None
        return cls(labels=labels, value=figure.value, low=figure.low, high=figure.high, n=figure.n, run=run)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The labels that a target takes, from a curve whose largest point has the figure `value` at `labels` labels.

    `least` labels (or more) with 95% probability, `median` and `most` (95%) as the posterior has them; None is beyond
    `HORIZON` times `labels`. `verdict`: "reached" (the interval of the largest point lies beyond the target), "perhaps
    reached" (`least` is no more than there are), "at least", or "not in reach" (`least` is None).
    """

    target: float
    labels: int
    value: float
    least: int | None
    median: int | None
    most: int | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class LearningCurves:
    """G curves c + (e - c) (n / `reference`)^-b with their posterior weights: all arrays are [G].

    `slack` is how far the error at a target may be off its curve, as a part of the error (a standard deviation).
    """

    reference: float
    floors: Floats
    levels: Floats
    exponents: Floats
    weights: Floats
    slack: float

    def errors(self, labels: float) -> Floats:
        """The error of each curve after so many labels."""
        ratio = (labels / self.reference) ** -self.exponents
        return np.asarray(self.floors + (self.levels - self.floors) * ratio, np.float64)

    def error_after(self, labels: float) -> float:
        """The median error after so many labels."""
        return _quantiles(self.errors(labels), self.weights, [MIDDLE])[0]

    def labels_to(self, error: float) -> tuple[float, float, float]:
        """The labels that an error takes: quantiles `LOW`, `MIDDLE` and `HIGH`; infinite where it is never reached."""
        chances = np.exp(-0.5 * MOVES**2)
        wanted = error * np.exp(self.slack * MOVES)
        above = self.levels - self.floors
        left = np.maximum(wanted[:, None] - self.floors, 0.0)
        with np.errstate(divide="ignore", over="ignore"):
            labels = self.reference * (above / left) ** (1 / self.exponents)
        low, middle, high = _quantiles(labels.ravel(), np.outer(chances, self.weights).ravel(), [LOW, MIDDLE, HIGH])
        return low, middle, high


def is_share(metric: str) -> bool:
    """Whether a recorded metric is a share, of which more is better; the others are mean errors of numbers.

    >>> is_share("mark:accuracy"), is_share("mae"), is_share("shade:mae_found")
    (True, False, False)
    """
    return metric.rpartition(":")[2] not in ("mae", "mae_found")


def check_target(target: float, metric: str, *, share: bool) -> None:
    """BadInput for a target that the metric cannot have: a share outside of 0 to 1, or a number below 0."""
    if share and not 0 < target <= 1:
        fix = f"; write {target / 100:g}" if 1 < target <= 100 else "; name one that the metric can have"
        raise BadInput(f"--target {target:g}: {metric} is a share above 0 and at most 1{fix}")
    if not (share or 0 < target < math.inf):
        raise BadInput(f"--target {target:g}: {metric} is an error above 0; name one that the metric can have")


def learning_curves(points: Sequence[CurvePoint], *, share: bool) -> LearningCurves:
    """The posterior of the curve through points at `FEWEST` numbers of labels or more; BadInput for fewer."""
    counts = {point.labels for point in points}
    if len(counts) < FEWEST:
        number = f"{len(counts)} point" + "s" * (len(counts) != 1)
        raise BadInput(
            f"the curve has {number}, and a forecast takes {FEWEST} at different numbers of labels; train after the "
            "next labels"
        )
    largest = max(counts)
    start = min(_error(point, share=share) for point in points)
    levels, floors, exponents = (part.ravel() for part in np.meshgrid(start * LEVELS, FLOORS, EXPONENTS, indexing="ij"))
    curves = LearningCurves(
        reference=float(largest), floors=floors * levels, levels=levels, exponents=exponents,
        weights=np.ones(len(levels)), slack=_slack(max(points, key=lambda point: point.labels), share=share),
    )  # fmt: skip
    logs = -FLOORED * floors
    for point in points:
        logs += _likelihood(point, curves.errors(point.labels), share=share)
    return replace(curves, weights=np.exp(logs - logs.max()))


def forecast(points: Sequence[CurvePoint], target: float, *, share: bool) -> Forecast:
    """The labels that a figure takes to reach `target`: at least it for a share, at most it for a mean error.

    BadInput for fewer than `FEWEST` numbers of labels.

    >>> rows = [(100, 0.70), (200, 0.78), (400, 0.84), (800, 0.88)]
    >>> curve = [CurvePoint(labels=n, value=y, low=y - 0.03, high=y + 0.03, n=700) for n, y in rows]
    >>> forecast(curve, 0.92, share=True).verdict
    'at least'
    """
    curves = learning_curves(points, share=share)
    newest = max(points, key=lambda point: point.labels)
    ends = curves.labels_to(1 - target if share else target)
    least, median, most = (math.ceil(end) if end <= HORIZON * newest.labels else None for end in ends)
    return Forecast(
        target=target, labels=newest.labels, value=newest.value, least=least, median=median, most=most,
        verdict=_verdict(newest, target, least, share=share),
    )  # fmt: skip


def _verdict(newest: CurvePoint, target: float, least: int | None, *, share: bool) -> Verdict:
    if newest.low >= target if share else newest.high <= target:
        return "reached"
    if least is not None and least <= newest.labels:
        return "perhaps reached"
    return "not in reach" if least is None else "at least"


def _error(point: CurvePoint, *, share: bool) -> float:
    """The error of a point; at least half of one judged label of a share, where no error was seen."""
    return max(1 - point.value, 0.5 / max(1, point.n)) if share else max(point.value, TINY)


def _slack(point: CurvePoint, *, share: bool) -> float:
    """How far the error at a target may be off the curve, as a part of the error (a standard deviation): the judged
    labels say too much or too little, and the curve is wrong by `MISFIT` there too."""
    spread = (point.high - point.low) / (2 * Z)
    return math.hypot(COMMON**0.5 * spread / _error(point, share=share), MISFIT)


def _quantiles(values: Floats, weights: Floats, chances: Sequence[float]) -> list[float]:
    """The least values up to which these parts of the weights lie."""
    return [float(part) for part in np.quantile(values, chances, weights=weights, method="inverted_cdf")]


def _likelihood(point: CurvePoint, errors: Floats, *, share: bool) -> Floats:
    """Logarithm of the likelihood of a point under the errors [G] of the curves."""
    if not share:
        own = (1 - COMMON) * ((point.high - point.low) / (2 * Z)) ** 2
        spread = own + (MISFIT * errors) ** 2
        return np.asarray(-0.5 * (point.value - errors) ** 2 / spread - 0.5 * np.log(spread), np.float64)
    from scipy.special import betaln

    errors = np.clip(errors, TINY, 1 - TINY)
    size = _effective(point) / (1 - COMMON)
    count = size * (1 - point.value)
    strength = np.maximum((1 - errors) / (MISFIT**2 * errors) - 1, 2.0)
    first, second = strength * errors, strength * (1 - errors)
    return np.asarray(betaln(first + count, second + size - count) - betaln(first, second), np.float64)


def _effective(point: CurvePoint) -> float:
    """The labels that the interval of a share is worth, by the end of Wilson's interval that is farther away."""
    below, above = point.value - point.low, point.high - point.value
    gap, end = (below, point.low) if below >= above else (above, point.high)
    return Z**2 * end * (1 - end) / max(gap, TINY) ** 2 if 0 < end < 1 else float(point.n)
