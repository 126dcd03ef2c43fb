"""The points of a simulation as one table and one picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amber.simulate import Point
from amber.terminal import WrappedTable, table
from curation.arrays import Floats
from curation.errors import BadInput
from curation.files.atomic import whole

__all__ = ["differences_of", "draw", "paired", "simulated_table"]


FORMATS = (".png", ".svg")
COLOURS = ("#00798c", "#d1495b", "#edae49", "#30638e", "#7a9e7e", "#8d6a9f", "#5c5c5c")
RESAMPLES = 10_000


def simulated_table(title: str, points: Sequence[Point]) -> WrappedTable:
    """A row for each arm after its last round: figures of the wanted classes on test, means of classes and seeds, and
    the paired difference of average precision from random's with its 95% interval; then the mean of all tasks'
    figures. Of a task of numbers, the figure is that of the task, such as its mean absolute error."""
    if points[0].error is not None:
        return _numbers_table(title, points)
    rows: list[list[Any]] = []
    for arm in dict.fromkeys(point.arm for point in points):
        last = _last(points, arm)
        means = [np.mean([getattr(point, name) for point in last]) for name in ("ap", "precision", "recall", "f1")]
        others = [value for point in last for value in point.tasks.values()]
        difference = paired(points, arm)
        found = sum(point.found for point in last) / len({point.seed for point in last})
        rows.append(
            [arm, f"{np.mean([point.labels for point in last]):,.0f}", f"{found:.1f}",
             *(f"{mean:.3f}" for mean in means), difference and "{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference),
             f"{np.mean(others):.3f}" if others else ""]
        )  # fmt: skip
    columns = ["arm", "labels", "found", "AP", "precision", "recall", "F1", "AP minus random's [95%]", "mean of tasks"]
    return table(title, columns, rows)


def _numbers_table(title: str, points: Sequence[Point]) -> WrappedTable:
    rows: list[list[Any]] = []
    for arm in dict.fromkeys(point.arm for point in points):
        last = _last(points, arm)
        difference = paired(points, arm, of=lambda point: point.error)
        errors = [point.error for point in last if point.error is not None]
        rows.append(
            [arm, f"{np.mean([point.labels for point in last]):,.0f}", f"{np.mean(errors):.3f}",
             difference and "{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference)]
        )  # fmt: skip
    return table(title, ["arm", "labels", "error", "error minus random's [95%]"], rows)


def paired(
    points: Sequence[Point], arm: str, other: str = "random", *, of: Callable[[Point], float | None] = lambda p: p.ap
) -> tuple[float, float, float] | None:
    """The mean over seeds of an arm's last figure minus that of `other`, and its 95% interval by resampling seeds; None
    without a seed that has both, and for an arm beside itself.

    The figure of a seed is the mean over the wanted classes `of` a point: its average precision, unless said.
    """
    differences = differences_of(points, arm, other, of=of)
    if arm == other or not len(differences):
        return None
    chosen = np.random.default_rng(0).integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.quantile(differences[chosen].mean(axis=1), [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


def differences_of(
    points: Sequence[Point], arm: str, other: str, *, of: Callable[[Point], float | None] = lambda p: p.ap
) -> Floats:
    """The last figure of an arm minus that of `other`, by seed [n]."""
    mine, theirs = (_by_seed(_last(points, name), of) for name in (arm, other))
    return np.array([mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())])


def _by_seed(points: Sequence[Point], of: Callable[[Point], float | None]) -> dict[int, float]:
    """The mean over classes of a figure, by seed; points without it are left out."""
    found: dict[int, list[float]] = {}
    for point in points:
        value = of(point)
        if value is not None and np.isfinite(value):
            found.setdefault(point.seed, []).append(value)
    return {seed: float(np.mean(values)) for seed, values in found.items()}


def draw(title: str, points: Sequence[Point], path: Path) -> Path:
    """Average precision of the wanted classes (or the error of a task of numbers) against the labels bought, a line for
    each arm, with the range of the middle half of seeds and classes, as a PNG or SVG."""
    if path.suffix not in FORMATS:
        raise BadInput(f"--picture {path}: must end in {' or '.join(FORMATS)}; correct it")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for color, arm in zip(COLOURS * 2, dict.fromkeys(point.arm for point in points), strict=False):
        mine = [point for point in points if point.arm == arm]
        curves = [[point for point in mine if (point.seed, point.label) == one]
                  for one in sorted({(point.seed, point.label) for point in mine})]  # fmt: skip
        steps = min(map(len, curves))
        labels: Floats = np.mean([[point.labels for point in curve[:steps]] for curve in curves], axis=0)
        values: Floats = np.array([[_shown(point) for point in curve[:steps]] for curve in curves])
        axes.plot(labels, values.mean(axis=0), color=color, marker="o", markersize=4, label=arm)
        axes.fill_between(labels, *np.quantile(values, [0.25, 0.75], axis=0), color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel="labels", ylabel="average precision" if points[0].error is None else "error", title=title)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    with whole(path) as part:
        figure.savefig(part, format=path.suffix[1:], dpi=150)
    return path


def _last(points: Sequence[Point], arm: str) -> list[Point]:
    """The point of each seed and class after the last round of an arm."""
    return list({(point.seed, point.label): point for point in points if point.arm == arm}.values())


def _shown(point: Point) -> float:
    """The figure that the picture shows."""
    return point.ap if point.error is None else point.error
