"""The verb `amber compare`: two runs on the same labels."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Group

from amber.completion import RUN, TASK
from amber.terminal import note, show
from amber.verbs.options import workspace
from curation.catalog.catalog import Catalog
from curation.catalog.schema import EVALUATION
from curation.errors import BadInput

if TYPE_CHECKING:
    from training.judging.flips import Flip

__all__ = ["compare_command"]


@click.command("compare")
@click.argument("first", metavar="[FIRST]", default="", type=RUN)
@click.argument("second", metavar="[SECOND]", default="", type=RUN)
@click.option(
    "--split", type=click.Choice(sorted(EVALUATION)), default="test", show_default=True, help="Split to judge on."
)
@click.option("--task", "tasks", multiple=True, type=TASK, help="Compare only this task; may be given several times.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="Measure instead of each task's own: accuracy, balanced_accuracy, macro_f1, map, mae, or recall, precision, "
    "f1 or ap with :CLASS; of an attribute of boxes NAME:accuracy, NAME:mae, NAME:recall; may be given several times.",
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
    from amber.comparison_tables import comparison_tables, unequal_lines
    from amber.flips_page import write_flips
    from training.judging.comparison import compare_attributes, compare_slices, measures_of
    from training.judging.flips import flips
    from training.judging.paired_runs import PairedRuns
    from training.run_list import two_runs

    catalog = Catalog.open(home)
    with catalog.read() as now:
        pair = two_runs(catalog.home, now, second or first, first if second else "")
        runs = PairedRuns.load(now, catalog.home, *pair, split=split, tasks=tasks)
        measures = measures_of(runs, metrics)
        figures, found = compare_slices(runs, measures), compare_attributes(now, runs, measures)
        flipped = flips(runs)
        samples = {row["key"]: row for row in now.samples().to_pylist()} if sheet else {}
    if sheet:
        write_flips(flipped, samples, runs.runs, sheet)
    for line in () if as_json else unequal_lines(runs):
        note(line)
    data = {
        "first": runs.runs[0], "second": runs.runs[1], "split": split, "figures": [asdict(part) for part in figures],
        "attributes": [asdict(part) for part in found], "flips": [asdict(part) for part in flipped],
        "left_out": dict(runs.left_out), "unequal": {task: asdict(part) for task, part in runs.unequal.items()},
    }  # fmt: skip
    show(data, as_json, lambda: Group(*comparison_tables(runs, figures, found, flipped)))
    if app:
        from amber.verbs.browse import browse_command

        context.invoke(
            browse_command, run_=runs.runs[1], against=runs.runs[0], view=_flip_view(flipped), home=home,
            as_json=as_json,
        )  # fmt: skip


def _flip_view(flipped: "Sequence[Flip]") -> str:
    """The App's view of the task with the most flipped images; BadInput where none is flipped."""
    names = [part.task for part in flipped]
    if not names:
        raise BadInput("--app: the runs agree on every label, so there is no flipped image to show; leave it out")
    return f"flips {max(dict.fromkeys(names), key=names.count)}"
