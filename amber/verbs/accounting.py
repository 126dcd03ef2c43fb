"""The verb `amber accounts`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group

from amber.terminal import note, plain, show, table
from amber.verbs.options import workspace
from amber.verbs.runs import HASH, shown_time
from curation.catalog.catalog import Catalog

if TYPE_CHECKING:
    from training.dynamics.accounts import AccountAlarm, Accounts

__all__ = ["accounts_command"]


@click.command("accounts")
@click.option(
    "-n", "count", default=10, show_default=True, type=click.IntRange(min=1), help="Number of plans, the newest ones."
)
@workspace
def accounts_command(count: int, home: str, as_json: bool) -> None:
    """Show who paid for what: shares, effective draws and figures of each task over the last plans and their runs.

    An alarm names a task that lost share, importance or effective draws in a plan that somebody else made, or whose
    figure on test fell in a run on such a plan; a fall is shown by a test over all tasks and runs (5%), not by eye.
    """
    from training.dynamics.accounts import accounts

    catalog = Catalog.open(home)
    with catalog.read() as now:
        found = accounts(now, catalog.home, count=count)
    for line in () if as_json else found.notes:
        note(line)
    data = asdict(found)
    data["plans"] = [{**row, "at": step.at.isoformat()} for row, step in zip(data["plans"], found.plans, strict=True)]
    show(data, as_json, lambda: Group(*_tables(found), *(map(_line, found.alarms) if found.alarms else ["no alarm"])))


def _tables(found: "Accounts") -> list[Any]:
    plans = [
        [step.plan[:HASH], shown_time(step.at), step.by or "-", step.policy, step.commit, step.draws,
         plain(step.signed) or "-"]
        for step in found.plans
    ]  # fmt: skip
    names = dict.fromkeys(name for step in found.plans for name in step.outcomes)
    got = [
        [name, found.owners.get(name, "-"), step.plan[:HASH], row.share, row.importance, row.labels, row.ess,
         row.distinct_ess, _minutes(step.seconds.get(name)), "; ".join(step.lowered.get(name, ())) or "-"]
        for name in names for step in found.plans if (row := step.outcomes.get(name))
    ]  # fmt: skip
    columns = [
        "task", "owner", "plan", "share", "importance", "labels", "effective draws", "distinct", "minutes of labelling",
        "fell",
    ]  # fmt: skip
    return [
        table("Plans", ["plan", "date (UTC)", "by", "policy", "commit", "draws", "signed by"], plans),
        table("What each task got", columns, got),
        *_figures(found),
    ]


def _figures(found: "Accounts") -> list[Any]:
    if not found.figures:
        return []
    from amber.comparison_tables import difference_text

    rows = [
        [step.figure.task, found.owners.get(step.figure.task, "-"), step.run[:HASH], step.before[:HASH],
         step.plan[:HASH], step.by, difference_text(step.figure), step.p, "fell" if step.fell else "-"]
        for step in sorted(found.figures, key=lambda step: step.figure.task)
    ]  # fmt: skip
    columns = ["task", "owner", "run", "after", "plan", "change by", "difference [95% interval]", "p of all", "shown"]
    return [table("Figures on test, from run to run", columns, rows)]


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 60


def _line(alarm: "AccountAlarm") -> str:
    gained = f"; more for {', '.join(alarm.gained)}" if alarm.gained else ""
    signed = {None: "", True: f"; {alarm.owner} signed", False: f"; {alarm.owner} did not sign"}[alarm.signed]
    return f"alarm: {alarm.task} ({alarm.owner}): {alarm.what} by {alarm.kind} {alarm.subject[:HASH]} of {alarm.by}" + (
        gained + signed
    )
