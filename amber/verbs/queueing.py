"""The verb `amber queue`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group

from amber.completion import TASK
from amber.terminal import note, show, table
from amber.verbs.options import using_files, workspace
from curation.catalog.catalog import Catalog

if TYPE_CHECKING:
    from training.judging.queue import QueueRow, RefitGain
    from training.judging.task_changes import TaskChange

__all__ = ["queue_command"]


@click.command("queue")
@click.option(
    "--task", "tasks", multiple=True, type=TASK, help="Look at this task; may be given several times. Default: all."
)
@click.option("--no-measure", is_flag=True, help="Solve no head again; only list what changed.")
@click.option("--embeddings", default="", metavar="MODEL", help="Features for a run that learned from pixels.")
@workspace
@using_files
def queue_command(tasks: Sequence[str], no_measure: bool, embeddings: str, home: str, as_json: bool) -> None:
    """Show what changed about each task since the newest run that learned it, and what to train again.

    The action is nothing, head, branch or trunk. The gain is measured: the exact head is solved on the run's cached
    features with the labels of the run, and with those known now. Both are judged on validation and on the labels of
    the run, each predicted by heads that did not see its group. "head" needs an interval of the gain above 0 and
    p <= 0.05; see docs/judging.md for the rule.
    """
    from amber.queue import queue

    catalog = Catalog.open(home)
    with catalog.read() as now:
        rows, notes = queue(catalog, now, tasks=tasks, measure=not no_measure, embeddings=embeddings)
    for line in () if as_json else notes:
        note(line)
    data = {"tasks": [asdict(row) for row in rows], "notes": notes}
    columns = ["task", "train again", "run", "labels", "changed", "head gains", "gate"]
    human = table("What to train again", columns, map(_cells, rows))
    show(data, as_json, lambda: Group(human, *map(_line, rows)))


def _cells(row: "QueueRow") -> list[Any]:
    change = row.change
    counts = f"{change.labels_before:,} then {change.labels:,}" if change.run else f"{change.labels:,}"
    gate = change.gate or "-"
    return [change.task, row.action, change.run[:12] or "-", counts, _changed(change), _gain(row.gain), gate]


def _line(row: "QueueRow") -> str:
    """Why so, and by what the gain was judged."""
    gain = row.gain
    judged = f" (p {gain.p:.2g}; {gain.n:,} labels of {gain.groups:,} groups: {gain.judged_on})" if gain else ""
    return f"{row.change.task}: {row.why}{judged}"


def _changed(change: "TaskChange") -> str:
    counts = {"new": change.new, "corrected": change.corrected, "gone": change.gone}
    parts = [f"{count:,} {name}" for name, count in counts.items() if count]
    moved = [f"{part.name} {100 * part.before:.1f}% then {100 * part.now:.1f}%" for part in change.prevalence]
    return ", ".join([*parts, *change.classes, *moved]) or "-"


def _gain(gain: "RefitGain | None") -> str:
    return f"{gain.gain:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}] {gain.unit}" if gain else "-"
