"""The verb `amber compare`: two runs on the same labels."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Group

from amber.flips_page import write_flips
from amber.terminal import WrappedTable, note, show, table
from amber.verbs.browse import browse_command
from amber.verbs.options import workspace
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, NotFound
from training.evaluation.figures import SPLITS
from training.judging.comparison import ComparedFigure, compare_attributes, compare_slices, measures_of
from training.judging.flips import Flip, flips
from training.judging.paired_runs import PairedRuns
from training.run_list import run_before

__all__ = ["compare_command", "two_runs", "unequal_lines"]

SHOWN = 12
"""Flipped images that are listed; a page shows more."""


@click.command("compare")
@click.argument("first", default="")
@click.argument("second", default="")
@click.option("--split", type=click.Choice(SPLITS), default="test", show_default=True, help="Split to judge on.")
@click.option("--task", "tasks", multiple=True, help="Compare only this task; may be given several times.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="Measure instead of each task's own: accuracy, balanced_accuracy, macro_f1, map, mae, or recall, precision, "
    "f1 or ap with :CLASS; may be given several times.",
)
@click.option("--sheet", type=click.Path(path_type=Path), help="Write an HTML page of the flipped images.")
@click.option("--app", is_flag=True, help="Then open the flipped images in the FiftyOne App.")
@workspace
@click.pass_context
def compare_command(
    context: click.Context, first: str, second: str, split: str, tasks: Sequence[str], metrics: Sequence[str],
    sheet: Path | None, app: bool, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Compare run SECOND with run FIRST on every task and slice: differences, intervals, p values, flipped images.

    Without SECOND, run FIRST (default: the one evaluated last) is compared with its parent, or else the run before it.
    p is adjusted for all slices that are compared (5% for any false difference). Values of attributes that are no
    slices are searched too; those found have a false discovery rate of at most 10%.
    """
    catalog = Catalog.open(home)
    with catalog.read() as now:
        runs = PairedRuns.load(now, catalog.home, *two_runs(catalog.home, now, first, second), split=split, tasks=tasks)
        measures = measures_of(runs, metrics)
        figures, found = compare_slices(runs, measures), compare_attributes(now, runs, measures)
        flipped = flips(runs)
        samples = {row["key"]: row for row in now.samples().to_pylist()} if sheet else {}
    if sheet:
        write_flips(flipped, samples, runs.runs, sheet)
    for line in unequal_lines(runs):
        note(line)
    data = {
        "first": runs.runs[0], "second": runs.runs[1], "split": split, "figures": [asdict(part) for part in figures],
        "attributes": [asdict(part) for part in found], "flips": [asdict(part) for part in flipped],
        "left_out": dict(runs.left_out),
    }  # fmt: skip
    show(data, as_json, lambda: Group(*_tables(runs, figures, found, flipped)))
    if app:
        context.invoke(
            browse_command, run_=runs.runs[1], against=runs.runs[0], view=_flip_view(flipped), home=home,
            as_json=as_json,
        )  # fmt: skip


def two_runs(home: Path, now: Snapshot, first: str, second: str) -> tuple[str, str]:
    """The runs to compare, of which the second, or both, may be left out ("")."""
    if second:
        return first, second
    names = now.runs()["run"].to_pylist()
    if not names:
        raise NotFound(f"{home}: the catalog has no run yet; create some with `amber train`")
    newest = now.runs.full_id(first) if first else str(names[-1])
    before = run_before(home, now, newest)
    if not before:
        raise BadInput(f"run {newest!r}: no run was evaluated before it; name the one to compare it with")
    return before, newest


def unequal_lines(runs: PairedRuns) -> list[str]:
    """A line for each task whose labels the runs do not both predict, and for each slice that is not evaluated."""
    lines = [
        f"{task}: judged on the labels that both runs predict; {part.only_first:,} are predicted by the first alone, "
        f"{part.only_second:,} by the second alone"
        for task, part in runs.unequal.items()
    ]
    return [*lines, *(f"slice {name} is left out: {why}" for name, why in runs.left_out.items())]


def _flip_view(flipped: Sequence[Flip]) -> str:
    """The App's view of the task with the most flipped images; BadInput where none is flipped."""
    names = [part.task for part in flipped]
    if not names:
        raise BadInput("--app: the runs agree on every label, so there is no flipped image to show; leave it out")
    return f"flips {max(dict.fromkeys(names), key=names.count)}"


def _tables(
    runs: PairedRuns, figures: Sequence[ComparedFigure], found: Sequence[ComparedFigure], flipped: Sequence[Flip]
) -> list[Any]:
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
            part.task, part.slice or "everything", part.measure, part.n, part.groups, _value(part, part.first),
            _value(part, part.second), _difference(part), getattr(part, chance), part.verdict, part.fixed, part.broken,
        ]
        for part in figures
    ]  # fmt: skip
    columns = [
        "task", "slice", "metric", "n", "groups", "first", "second", "difference [95% interval]", chance, "verdict",
        "fixed", "broken",
    ]  # fmt: skip
    return table(title, columns, rows)


def _value(part: ComparedFigure, value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}" if part.unit == "points" else f"{value:.2f}"


def _difference(part: ComparedFigure) -> str:
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
