"""Tables of two runs that are compared, for a terminal."""

from collections.abc import Sequence
from typing import Any

from amber.terminal import WrappedTable, table
from training.judging.comparison import ComparedFigure
from training.judging.flips import Flip
from training.judging.paired_runs import PairedRuns

__all__ = ["comparison_tables", "difference_text", "unequal_lines", "value_text"]

SHOWN = 12
"""Flipped images that are listed; a page shows more."""


def comparison_tables(
    runs: PairedRuns, figures: Sequence[ComparedFigure], found: Sequence[ComparedFigure], flipped: Sequence[Flip]
) -> list[Any]:
    """What is compared, attributes that differ, and the first flipped images."""
    title = f"{runs.runs[1]} compared with {runs.runs[0]} on {runs.split}"
    shown: list[Any] = [_figures_table(title, figures, "p")]
    attributes = _figures_table("Attributes that differ (false discovery rate 10%)", found, "q")
    shown.append(attributes if found else "no value of an attribute differs (false discovery rate 10%)")
    if flipped:
        shown += [_flips_table(flipped), f"`amber browse --run {runs.runs[1]} --against {runs.runs[0]}` shows all"]
    return shown


def _figures_table(title: str, figures: Sequence[ComparedFigure], chance: str) -> WrappedTable:
    rows = [
        [
            part.task, part.slice or "everything", part.measure, part.n, part.groups, value_text(part, part.first),
            value_text(part, part.second), difference_text(part), getattr(part, chance), part.verdict, part.fixed,
            part.broken,
        ]
        for part in figures
    ]  # fmt: skip
    columns = [
        "task", "slice", "metric", "n", "groups", "first", "second", "difference [95% interval]", chance, "verdict",
        "fixed", "broken",
    ]  # fmt: skip
    return table(title, columns, rows)


def value_text(part: ComparedFigure, value: float | None) -> str | None:
    """One run's value of a compared figure; None where the labels do not define it."""
    return None if value is None else f"{value:.3f}" if part.unit == "points" else f"{value:.2f}"


def difference_text(part: ComparedFigure) -> str:
    """The difference of the second run from the first, with its interval and unit; or why there is none."""
    if part.difference is None or part.low is None or part.high is None:
        return part.doubt
    scale, unit = (100, "points") if part.unit == "points" else (1, part.unit)
    value, low, high = (scale * each for each in (part.difference, part.low, part.high))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}] {unit}"


def _flips_table(flipped: Sequence[Flip]) -> WrappedTable:
    broken = sum(part.what == "broken" for part in flipped)
    turns = sorted(range(len(flipped)), key=lambda place: flipped[place].what != "broken")[:SHOWN]
    rows = [
        [part.what, part.task, part.key, str(part.truth), str(part.first), str(part.second)]
        for part in (flipped[place] for place in turns)
    ]
    title = f"Flipped images: {broken:,} broken, {len(flipped) - broken:,} fixed"
    title += f"; the first {SHOWN} (--sheet FILE shows more)" if len(flipped) > SHOWN else ""
    return table(title, ["what", "task", "sample", "label", "first", "second"], rows)


def unequal_lines(runs: PairedRuns) -> list[str]:
    """A line for each task whose labels the runs do not both predict, and for each slice that is not evaluated."""
    lines = [
        f"{task}: judged on the labels that both runs predict; {part.only_first:,} are predicted by the first alone, "
        f"{part.only_second:,} by the second alone"
        for task, part in runs.unequal.items()
    ]
    return [*lines, *(f"slice {name} is left out: {why}" for name, why in runs.left_out.items())]
