"""Two runs compared: every measure on every slice, with intervals and with p values that count how many were tried."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from curation.analysis.attribute_values import attribute_values
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.rows import tabled
from training.judging.bounds import TWO_SIDED
from training.judging.box_measures import AnyMeasure, measure_of
from training.judging.group_sums import PairedSums
from training.judging.paired_runs import AnyPair, PairedBoxes, PairedRuns
from training.judging.swaps import Swaps, false_discovery_rates

__all__ = ["ALPHA", "FALSE_DISCOVERIES", "ComparedFigure", "compare_attributes", "compare_slices", "measures_of"]

ALPHA: Final = 0.05
"""The chance of any false difference among all declared slices."""
FALSE_DISCOVERIES: Final = 0.1
"""The expected share of false differences among those found in attributes."""
FEWEST: Final = 10
"""Groups that an attribute's value must occur in."""


@dataclass(frozen=True, kw_only=True)
class ComparedFigure:
    """One measure of two runs on one slice, over the same n labels of `groups` groups.

    `first` and `second` are the runs' values, `difference` is second - first and `low` to `high` its 95% interval, all
    None where the labels do not define the measure (`doubt` says why). They are fractions for shares, and in `unit` for
    numbers. `p` is adjusted for all declared slices; `q` (attributes only) is the false discovery rate at which it is
    found. `verdict` is "better", "worse", "no difference shown" or "not enough data". `fixed` and `broken` count the
    labels on which the second run errs less and more (0 for boxes).
    """

    task: str
    slice: str
    measure: str
    unit: str
    n: int
    groups: int
    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    q: float | None
    verdict: str
    fixed: int
    broken: int
    doubt: str = ""


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """A measure on a slice: counts of its labels, and the sums of both runs, None where it is not defined.

    `labels` makes the labels again: those of thousands of cells are not held.
    """

    measure: AnyMeasure
    slice: str
    labels: Callable[[], AnyPair]
    counts: Mapping[str, int]
    sums: PairedSums | None


def measures_of(runs: PairedRuns, texts: Sequence[str] = ()) -> dict[str, list[AnyMeasure]]:
    """The measures of each task: its own metric, or those of `texts` that it has; BadInput for one that no task has."""
    if not texts:
        return {name: [measure_of(pair.task)] for name, pair in runs.tasks.items()}
    found: dict[str, list[AnyMeasure]] = {name: [] for name in runs.tasks}
    for text in texts:
        refused = []
        for name, pair in runs.tasks.items():
            try:
                found[name].append(measure_of(pair.task, text))
            except BadInput as error:
                refused.append(error)
        if len(refused) == len(runs.tasks):
            raise refused[0]
    return found


@tabled(ComparedFigure)
def compare_slices(
    runs: PairedRuns, measures: Mapping[str, Sequence[AnyMeasure]], slices: Collection[str] | None = None
) -> list[ComparedFigure]:
    """A figure for each measure on each (task, slice); p is adjusted for all of them.

    `slices` names the slices, "" for everything; default: all that are declared, and everything.
    """
    cells = [
        cell
        for task, slice_ in runs.cells()
        if slices is None or slice_ in slices
        for cell in _cells(runs, measures[task], slice_, partial(runs.cell, task, slice_))
    ]
    defined = [cell.sums for cell in cells if cell.sums is not None]
    adjusted = iter(Swaps.of(defined).step_down("both").tolist() if defined else [])
    return [_figure(cell, p=next(adjusted) if cell.sums is not None else None) for cell in cells]


@tabled(ComparedFigure)
def compare_attributes(now: Snapshot, runs: PairedRuns, measures: dict[str, list[AnyMeasure]]) -> list[ComparedFigure]:
    """The differences found on values of attributes, which nobody declared as slices, at a false discovery rate of 10%.

    Values in fewer than 10 groups of a task's labels are left out; numbers and times are cut into quarters.
    """
    cells: list[_Cell] = []
    for name, inside in attribute_values(now, runs.samples.ids, runs.samples.groups).items():
        judged = inside & runs.inside[""]
        for task, each in measures.items():
            found = _cells(runs, each, name, partial(runs.tasks[task].at, judged))
            cells += [cell for cell in found if cell.counts["groups"] >= FEWEST and cell.sums is not None]
    p, q = false_discovery_rates([cell.sums for cell in cells if cell.sums is not None], "both")
    figures = [
        _figure(cell, p=chance, q=rate)
        for cell, chance, rate in zip(cells, p.tolist(), q.tolist(), strict=True)
        if rate <= FALSE_DISCOVERIES
    ]
    return sorted(figures, key=lambda figure: (figure.p, figure.task, figure.slice))


def _cells(runs: PairedRuns, measures: Sequence[AnyMeasure], slice_: str, labels: Callable[[], AnyPair]) -> list[_Cell]:
    """Each measure of a task on one slice."""
    pair = labels()
    fixed, broken = _changed(pair)
    groups = len(np.unique(runs.samples.groups[pair.first.rows]))
    counts = {"n": len(pair.first.rows), "groups": groups, "fixed": fixed, "broken": broken}
    return [
        _Cell(measure=measure, slice=slice_, labels=labels, counts=counts, sums=measure.sums(pair))
        for measure in measures
    ]


def _figure(cell: _Cell, *, p: float | None, q: float | None = None) -> ComparedFigure:
    measure, pair = cell.measure, cell.labels()
    counts: dict[str, Any] = {
        "task": measure.task.name, "slice": cell.slice, "measure": measure.text, "unit": measure.unit, "p": p, "q": q,
        **cell.counts,
    }  # fmt: skip
    if cell.sums is None:
        return ComparedFigure(
            **counts, first=None, second=None, difference=None, low=None, high=None, verdict="not enough data",
            doubt=measure.undefined(pair),
        )  # fmt: skip
    bound = measure.bound(pair, z=TWO_SIDED)
    first, second = cell.sums.values()
    difference = second - first
    ends = (-bound.high, -bound.low) if measure.sign > 0 else (bound.low, bound.high)
    shown = (q is not None and q <= FALSE_DISCOVERIES) or (q is None and p is not None and p <= ALPHA)
    better = "better" if difference * measure.sign > 0 else "worse"
    return ComparedFigure(
        **counts, first=first, second=second, difference=difference, low=ends[0], high=ends[1],
        verdict=better if shown else "no difference shown",
    )  # fmt: skip


def _changed(pair: AnyPair) -> tuple[int, int]:
    """On how many labels the second run errs less, and more; 0 for boxes."""
    if isinstance(pair, PairedBoxes):
        return 0, 0
    was, now = pair.first.errors, pair.second.errors
    return int((now < was).sum()), int((now > was).sum())
