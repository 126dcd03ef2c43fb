"""The verb `amber forecast`."""

from dataclasses import asdict
from typing import Any

import click
from rich.console import Group

from amber.completion import SLICE, TASK
from amber.label_forecasts import LabelForecast, forecast_labels
from amber.terminal import interval, note, show, table
from amber.verbs.options import using_files, workspace
from curation.catalog.catalog import Catalog
from training.judging.forecast import HORIZON

__all__ = ["forecast_command"]

MINUTE, HOUR = 60.0, 3600.0


@click.command("forecast")
@click.option("--task", required=True, type=TASK, help="Whose labels are counted.")
@click.option("--target", type=float, required=True, help="The figure to reach: a share such as 0.95, or a mean error.")
@click.option(
    "--slice", "slice_", default="", metavar="NAME", type=SLICE, help="Where it is to be reached; default: everywhere."
)
@click.option(
    "--split", type=click.Choice(["validation", "test"]),
    help="Whose labels judge; default: validation, or test where the task has no label there.",
)  # fmt: skip
@click.option("--metric", default="", help="Another recorded metric of the task, such as map; it is read from runs.")
@click.option("--from-runs", is_flag=True, help="Take the recorded figures of runs; refit no head.")
@workspace
@using_files
def forecast_command(
    task: str, target: float, slice_: str, split: str | None, metric: str, from_runs: bool, home: str, as_json: bool
) -> None:
    """Forecast how many labels of a task its figure takes to reach a target: at least N (95%), or not in reach.

    The curve is measured: exact heads are solved again on nested parts of the labels, on the cached features of the
    newest run; without features, it is that of the runs so far. It holds for more labels like those so far. One round
    ahead a forecast is hardly better than "no change": `amber queue` measures that.

        amber forecast --task light_color --slice yellow --target 0.95
    """
    catalog = Catalog.open(home)
    with catalog.read() as now:
        found = forecast_labels(
            catalog, now, task, "" if slice_ == "everything" else slice_, target, split=split or "", metric=metric,
            from_runs=from_runs,
        )  # fmt: skip
    for line in () if as_json else found.notes:
        note(line)
    show(asdict(found), as_json, lambda: Group(_table(found), *_lines(found)))


def _table(found: LabelForecast) -> Any:
    refitted = found.source == "refits"
    rows = [
        [point.labels, interval({"metric": found.metric, **asdict(point)}), *([] if refitted else [point.run])]
        for point in found.points
    ]
    how = "heads refitted on parts of the labels" if refitted else "runs so far"
    title = f"{found.task} on {found.slice or 'everything'} of {found.split}, {how}"
    return table(title, ["labels", found.metric, *([] if refitted else ["run"])], rows)


def _lines(found: LabelForecast) -> list[str]:
    """What the forecast says, its cost, and what it does not say."""
    part = found.forecast
    target = f"{found.metric} {part.target:g}"
    if part.verdict == "reached":
        return [f"{target}: reached with {part.labels:,} labels; the whole interval lies beyond it"]
    if part.verdict == "not in reach":
        return [
            f"{target}: not in reach; with 95% probability it takes more than {HORIZON:g} times the {part.labels:,} "
            "labels there are, or more labels do not lead there at all",
            *_pool_line(found, None),
        ]  # fmt: skip
    assert part.least is not None
    more = max(0, part.least - part.labels)
    first = (
        f"{target}: perhaps reached with {part.labels:,} labels; more labels of {found.split} would tell"
        if part.verdict == "perhaps reached"
        else f"{target}: at least {part.least:,} labels (95%), {more:,} more than there are{_cost(found, more)}"
    )
    beyond = f"more than {HORIZON:g} times the labels there are"
    low, middle, most = (
        beyond if end is None else f"{max(end, part.labels):,}" for end in (part.least, part.median, part.most)
    )
    return [first, f"90% interval: {low} to {most}; middle: {middle}", *_pool_line(found, more)]


def _pool_line(found: LabelForecast, more: int | None) -> list[str]:
    if more is not None and more <= found.unlabelled:
        return []
    left = found.unlabelled
    return [f"{left:,} training images have no label of {found.task} yet{_cost(found, left)}"]


def _cost(found: LabelForecast, labels: int) -> str:
    """What so many labels cost, by the time that people took so far, or else in the unit of requests."""
    if found.cost.seconds is None:
        return f"; cost {labels * found.cost.cost:,.0f} at {found.cost.cost:g} a label (no answer was timed)"
    seconds = labels * found.cost.seconds
    time = f"{seconds / HOUR:,.1f} hours" if seconds >= HOUR else f"{seconds / MINUTE:,.0f} minutes"
    return f"; {time} of people at {found.cost.seconds:.1f} s a label (measured on {found.cost.timed:,})"
