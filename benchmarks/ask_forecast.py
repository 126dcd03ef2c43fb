"""How often the 90% interval of "labels to target" holds, on curves of real refits; beside least squares.

A curve is one order of a task's groups, seen up to some number of labels and judged by a part of the test labels, both
drawn twice for each order; the truth is where the mean curve over all orders, judged by all labels of test, reaches a
target that lies further out. Settings were chosen on mixtures of seeds below 100 (docs/log.md).
"""

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit, isotonic_regression

from benchmarks.ask_curves import LabelCurves, LabelledFeatures, curves_of, drawn_sets, real_sets
from benchmarks.table import Row, cases_row, small
from curation.arrays import Floats
from training.judging.forecast import FEWEST, HORIZON, CurvePoint, forecast, learning_curves

__all__ = ["forecast_rows"]

FIRST = int(os.environ.get("FIRST_SEED", "1000"))
ORDERS = int(os.environ.get("RUNS", "3" if small() else "6"))
SETS = 6 if small() else 12
CASES = 2
"""Cases of each order."""
NEXT = 1.25
"""One round ahead: so many times as many labels."""
FARTHEST = 30.0
"""A curve is followed at most so many times as far as it was seen."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A curve as far as it was seen, a target, the labels that reach it, and the error one round ahead."""

    name: str
    share: bool
    points: list[CurvePoint]
    target: float
    labels: float
    next_error: float

    @property
    def last_error(self) -> float:
        """The error of the last point that was seen."""
        return 1 - self.points[-1].value if self.share else self.points[-1].value


def forecast_rows() -> list[Row]:
    """Coverage of each family of curves and of all, and what least squares gives on the same cases."""
    real = [] if small() else real_sets()
    groups: dict[str, list[LabelledFeatures]] = {}
    if "DATA" not in os.environ:
        groups["mixtures of Gaussians"] = drawn_sets(SETS, FIRST)
    for part in real:
        groups.setdefault(part.name.partition("/")[0], []).append(part)
    cases, rows, unreached = list[Case](), list[Row](), list[bool]()
    for name, sets in groups.items():
        curves = list(curves_of(sets, ORDERS, FIRST, jobs=int(os.environ.get("JOBS", "1"))))
        own = [case for number, curve in enumerate(curves) for case in cases_of(curve, FIRST + number)]
        unreached += [_promises(curve, order) for curve in curves if curve.best > 0 for order in range(ORDERS)]
        cases += own
        rows.append(_coverage(f"{name}: {len(own)} curves, 90% interval covers", own, asked=False))
    return [
        _coverage(f"all {len(cases)} curves, 90% interval covers", cases, asked=True),
        *rows,
        *_more(cases, unreached),
    ]


def cases_of(curves: LabelCurves, seed: int) -> list[Case]:
    """Cases of each order: seen up to a random size, judged by 15 to 60% of the groups, a target further out."""
    generator = np.random.default_rng(seed)
    mean = np.asarray(isotonic_regression(curves.mean_errors(), increasing=False).x, np.float64)
    logs, sizes = np.log(np.maximum(mean, 1e-6)), np.log(curves.sizes)
    names, found = np.unique(curves.groups), list[Case]()
    for order in list(range(len(curves.errors))) * CASES:
        last = int(generator.integers(FEWEST, len(sizes) - 1))
        reach = min(sizes[-1], sizes[last] + math.log(FARTHEST))
        labels = math.exp(generator.uniform(sizes[last] + math.log(NEXT), reach))
        error = math.exp(float(np.interp(math.log(labels), sizes, logs)))
        if error >= 0.999 * mean[last]:
            continue  # flat: no target lies further out
        first = math.exp(float(np.interp(-math.log(error), -logs, sizes)))
        judged = generator.permutation(names)[: max(20, int(generator.uniform(0.15, 0.6) * len(names)))]
        inside = np.flatnonzero(np.isin(curves.groups, judged))
        seen = [
            CurvePoint.of(int(curves.sizes[size]), curves.figure(order, size, inside)) for size in range(last + 1)
        ]  # fmt: skip
        following = math.exp(float(np.interp(sizes[last] + math.log(NEXT), sizes, logs)))
        found.append(
            Case(
                name=curves.name, share=not curves.numeric, points=[part for part in seen if part], labels=first,
                target=error if curves.numeric else 1 - error, next_error=following,
            )
        )  # fmt: skip
    return [case for case in found if len(case.points) >= FEWEST]


def _ends(case: Case) -> tuple[float, float, float]:
    """5%, 50% and 95% quantiles of the labels that a target takes."""
    error = 1 - case.target if case.share else case.target
    return learning_curves(case.points, share=case.share).labels_to(error)


def _coverage(what: str, cases: Sequence[Case], *, asked: bool) -> Row:
    ends = np.array([_ends(case) for case in cases])
    truth = np.array([case.labels for case in cases])
    covered = int(((ends[:, 0] <= truth) & (truth <= ends[:, 2])).sum())
    return cases_row(
        what, covered, len(cases), asked="85 to 95%" if asked else "",
        met=not asked or 0.85 <= covered / len(cases) <= 0.95,
        peers={
            "too many promised %": 100 * float((ends[:, 0] > truth).mean()), "off by": _off(ends[:, 1], truth),
            "least squares off by": _off(np.array([_least_squares(case) for case in cases]), truth),
        },
    )  # fmt: skip


def _off(found: Floats, truth: Floats) -> float:
    """The median factor between what was forecast and the truth."""
    return float(np.median(np.exp(np.abs(np.log(np.maximum(found, 1.0) / truth)))))


def _least_squares(case: Case) -> float:
    """Labels to the target by the curve c + a n^-b with the least squared error; infinite where it never gets there."""
    sizes = np.array([point.labels / case.points[-1].labels for point in case.points])
    errors = np.array([1 - point.value if case.share else point.value for point in case.points])
    start = (errors[-1] / 2, errors[-1] / 2, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        try:
            (c, a, b), _ = curve_fit(lambda n, c, a, b: c + a * n**-b, sizes, errors, p0=start,
                                     bounds=([0, 0, 0.01], [np.inf, np.inf, 3.0]), maxfev=5_000)  # fmt: skip
        except RuntimeError:
            return math.inf
    wanted = (1 - case.target if case.share else case.target) - c
    return float(case.points[-1].labels * (a / wanted) ** (1 / b)) if wanted > 0 and a > 0 else math.inf


def _promises(curves: LabelCurves, order: int) -> bool:
    """Whether a target beyond what any head can reach is promised: an upper end below `HORIZON` times the labels."""
    every, last = np.arange(len(curves.truth)), len(curves.sizes) // 2
    points = [CurvePoint.of(int(curves.sizes[size]), curves.figure(order, size, every)) for size in range(last + 1)]
    found = forecast([part for part in points if part], 1 - 0.8 * curves.best, share=True)
    return found.most is not None


def _more(cases: Sequence[Case], unreached: Sequence[bool]) -> list[Row]:
    """What the interval is worth, and what happens one round ahead and at targets that nothing reaches."""
    ends = np.array([_ends(case) for case in cases])
    truth = np.array([case.labels for case in cases])
    beyond = HORIZON * np.array([case.points[-1].labels for case in cases])
    squares = np.array([_least_squares(case) for case in cases])
    ahead = []
    for case in cases:
        middle = learning_curves(case.points, share=case.share).error_after(NEXT * case.points[-1].labels)
        ahead.append([abs(middle - case.next_error) / case.next_error, abs(case.last_error / case.next_error - 1)])
    return [
        Row(what="upper end is beyond 100 times the labels", value=100 * float((ends[:, 2] > beyond).mean()), unit="%"),
        Row(what="called not in reach although it is", value=100 * float((ends[:, 0] > beyond).mean()), unit="%",
            asked="at most 5%", met=float((ends[:, 0] > beyond).mean()) <= 0.05,
            peers={"least squares %": 100 * float((squares > beyond).mean())}),
        Row(what="the lower end, over the truth (median)", value=float(np.median(ends[:, 0] / truth))),
        Row(what="least squares names too few labels", value=100 * float((squares < truth).mean()), unit="%"),
        Row(what="one round ahead, error of the forecast", value=100 * float(np.mean(ahead, axis=0)[0]), unit="%",
            peers={"no change %": 100 * float(np.mean(ahead, axis=0)[1])}),
        *(
            [Row(what=f"{len(unreached)} targets that nothing reaches, promised", value=100 * float(np.mean(unreached)),
                 unit="%", asked="at most 5%", met=float(np.mean(unreached)) <= 0.05)] if unreached else []
        ),
    ]  # fmt: skip
