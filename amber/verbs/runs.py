"""The verb `amber runs`."""

from datetime import datetime
from typing import Any

import click

from amber.terminal import interval, show, table
from amber.verbs.options import workspace
from curation.catalog.catalog import Catalog
from training.run_list import RunEntry, list_runs

__all__ = ["HASH", "runs_command", "shown_time"]

FIGURES = 3
"""A cell lists the figures of at most this many tasks."""
HASH = 12
"""Letters of a hash that are shown."""


@click.command("runs")
@click.option("-n", "count", default=20, show_default=True, type=click.IntRange(min=0), help="Number of runs.")
@workspace
def runs_command(count: int, home: str, as_json: bool) -> None:
    """List runs, newest first: date, author, plan (or imported model), policy, parent, figures on test, withdrawn.

    Wherever a verb takes a run, the beginning of its id is enough.
    """
    catalog = Catalog.open(home)
    with catalog.read() as now:
        rows = list_runs(catalog.home, now)[:count]
    columns = ["run", "date (UTC)", "author", "plan or model", "policy", "parent", "withdrawn", "figures on test"]
    show(
        [{**vars(row), "at": row.at.isoformat()} for row in rows],
        as_json,
        lambda: table("Runs", columns, [_cells(row) for row in rows]),
    )


def shown_time(at: datetime) -> str:
    """A moment in UTC, to the minute."""
    return at.isoformat(sep=" ", timespec="minutes")


def _cells(row: RunEntry) -> list[Any]:
    beside = f" (trained on: {row.trained_on})" if row.trained_on else ""
    figures = [f"{part['task']} {interval(part)}{beside}" for part in row.figures[:FIGURES]]
    if len(row.figures) > FIGURES:
        figures.append(f"and {len(row.figures) - FIGURES} more")
    return [
        row.run, shown_time(row.at), row.author or "-", row.model or row.plan[:HASH] or "-", row.policy or "-",
        row.parent[:HASH] or "-", row.withdrawn[:10] or "no", ", ".join(figures) if row.commit else "not evaluated",
    ]  # fmt: skip
