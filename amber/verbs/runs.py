"""The verb `amber runs`."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from amber.completion import SLICE
from amber.terminal import interval, show, table
from amber.verbs.options import workspace
from curation.analysis.box_attributes import is_of_attribute
from curation.catalog.catalog import Catalog
from training.run_list import RunEntry, list_runs

__all__ = ["HASH", "runs_command", "shown_time"]

FIGURES = 3
"""A cell lists the figures of at most this many tasks."""
HASH = 12
"""Letters of a hash that are shown."""
EVERYTHING = "everything"


@click.command("runs")
@click.option("-n", "count", default=20, show_default=True, type=click.IntRange(min=0), help="Number of runs.")
@click.option(
    "--slice", "slice_", metavar="NAME", type=SLICE,
    help="Show this slice over all runs instead ('everything' for all images), and what changed since the run before.",
)  # fmt: skip
@workspace
def runs_command(count: int, slice_: str | None, home: str, as_json: bool) -> None:
    """List runs, newest first: date, author, plan (or imported model), policy, parent, figures on test, withdrawn.

    Wherever a verb takes a run, the beginning of its id is enough.
    """
    catalog = Catalog.open(home)
    if slice_ is not None:
        _show_slice(catalog, slice_, count, as_json)
        return
    with catalog.read() as now:
        rows = list_runs(catalog.home, now)[:count]
    columns = ["run", "date (UTC)", "author", "plan or model", "policy", "parent", "withdrawn", "figures on test"]
    show(
        [{**vars(row), "at": row.at.isoformat()} for row in rows],
        as_json,
        lambda: table("Runs", columns, [_cells(row) for row in rows]),
    )


def _show_slice(catalog: Catalog, slice_: str, count: int, as_json: bool) -> None:
    """One slice over all runs."""
    from amber.comparison_tables import difference_text
    from training.judging.slice_history import slice_history

    with catalog.read() as now:
        entries = slice_history(now, catalog.home, "" if slice_ == EVERYTHING else slice_, count=count)
    rows = [
        [
            entry.run, entry.task, entry.metric, entry.n, interval(vars(entry)), entry.before[:HASH] or "-",
            difference_text(entry.change) if entry.change else entry.doubt, entry.change and entry.change.p,
            entry.change and entry.change.verdict,
        ]
        for entry in entries
    ]  # fmt: skip
    columns = ["run", "task", "metric", "n", "value", "run before", "change [95% interval]", "p", "verdict"]
    show([asdict(entry) for entry in entries], as_json, lambda: table(f"Runs on {slice_}", columns, rows))


def shown_time(at: datetime) -> str:
    """A moment in UTC, to the minute."""
    return at.isoformat(sep=" ", timespec="minutes")


def _named(figure: dict[str, Any]) -> str:
    """The name of a metric that is not the only one of its task."""
    metric = figure["metric"]
    return f"{metric} " if is_of_attribute(metric) else {"map": "AP ", "ap50": "AP50 "}.get(metric, "")


def _cells(row: RunEntry) -> list[Any]:
    beside = f" (trained on: {row.trained_on})" if row.trained_on else ""
    figures = [f"{part['task']} {_named(part)}{interval(part)}{beside}" for part in row.figures[:FIGURES]]
    if len(row.figures) > FIGURES:
        figures.append(f"and {len(row.figures) - FIGURES} more")
    return [
        row.run, shown_time(row.at), row.author or "-", row.model or row.plan[:HASH] or "-", row.policy or "-",
        row.parent[:HASH] or "-", row.withdrawn[:10] or "no", ", ".join(figures) if row.commit else "not evaluated",
    ]  # fmt: skip
