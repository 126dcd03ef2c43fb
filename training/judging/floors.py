"""Floors of a gate: what a run must beat by itself, where there is no other run to compare it with, or beside one.

A figure passes where its whole 95% interval is better than the floor, and is shown to fail where a one-sided test at
5%, divided by the number of floors (Bonferroni), says that it is worse.
"""

from collections.abc import Iterator

from scipy.stats import norm

from curation.errors import BadInput
from training.evaluation.figures import figures_of
from training.evaluation.intervals import Figure, Z
from training.judging.box_measures import AnyMeasure, measure_of
from training.judging.comparison import ALPHA
from training.judging.gate_rules import EVERYTHING, Judged, margin_in
from training.judging.judged import JudgedFigure
from training.judging.paired_runs import AnyPair, PairedRuns

__all__ = ["floor_figures"]


def floor_figures(runs: PairedRuns, floors: list[tuple[Judged, str]], where: str) -> list[JudgedFigure]:
    """A figure for each entry of the rules that has a floor, and each of its slices ("" for everything).

    The second run is judged. BadInput where a floor is in another unit than the metric, where the metric has no
    interval, and where the labels do not define it.
    """
    given = [(part, slice_) for part, slice_ in floors if part.floor]
    return [_judged(runs, part, slice_, len(given), where) for part, slice_ in given]


def _judged(runs: PairedRuns, part: Judged, slice_: str, count: int, where: str) -> JudgedFigure:
    pair = runs.cell(part.task, slice_)
    measure = measure_of(pair.task, part.metric)
    floor = margin_in(part.floor, measure, where, "floor")
    figure = _figure(measure, pair, f"{where}: floor of {measure.text} of {part.task} on {slice_ or EVERYTHING}")
    assert figure.value is not None
    assert figure.low is not None
    assert figure.high is not None
    value, low, high = (measure.scale * each for each in (figure.value, figure.low, figure.high))
    shortfall, bound = (measure.sign * (floor - each) for each in (value, low if measure.sign > 0 else high))
    error = (high - low) / (2 * Z)
    p = min(1.0, count * float(norm.sf(shortfall / error))) if error > 0 else float(shortfall <= 0)
    return JudgedFigure(
        what=f"{part.task} on {slice_ or EVERYTHING}, floor", task=part.task, slice=slice_, measure=measure.text,
        unit=measure.unit, n=figure.n, groups=figure.groups, base=floor, run=value, drop=shortfall, high=bound,
        margin=0.0, p=p, groups_needed=None,
        outcome="pass" if bound < 0 else "block" if p <= ALPHA else "not enough data",
    )  # fmt: skip


def _figure(measure: AnyMeasure, pair: AnyPair, place: str) -> Figure:
    """The figure of the second run; BadInput where there is none, or none with an interval."""
    found = figures_of(pair.task, pair.second)
    if measure.text not in found:
        known = ", ".join(_with_interval(found))
        raise BadInput(f"{place}: has no interval of its own; declare it on {known}, or leave it out")
    figure = found[measure.text]
    if figure.value is None or not figure.n:
        raise BadInput(f"{place}: is not defined, because {measure.undefined(pair)}; label some, or take it out")
    if figure.low is None or figure.high is None:
        raise BadInput(f"{place}: has no interval, because all labels are of one group; label others, or take it out")
    return figure


def _with_interval(found: dict[str, Figure]) -> Iterator[str]:
    yield from sorted(name for name, figure in found.items() if figure.low is not None)
