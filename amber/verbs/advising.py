"""The verb `amber advise`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group

from amber.terminal import note, show, table
from amber.verbs.options import using_files, workspace
from curation.catalog.catalog import Catalog

if TYPE_CHECKING:
    from training.judging.advice import TogetherAdvice

__all__ = ["advise_command"]

WORDS = {
    "pays": "learn it together", "costs": "learn it alone", "no difference shown": "no difference shown",
    "cannot tell": "cannot tell",
}  # fmt: skip


@click.command("advise")
@workspace
@using_files
def advise_command(home: str, as_json: bool) -> None:
    """Say whether learning the tasks of the newest run together pays here, by what was measured.

    Measured is a shared layer beside exact heads, which `amber train --heads auto` cross-validates, or two evaluated
    runs on one plan with and without shared layers. Where nothing is measured, amounts of labels and width only let one
    expect something, and the command that tells stands beside.
    """
    from training.judging.advice import advise

    catalog = Catalog.open(home)
    with catalog.read() as now:
        rows = advise(now, catalog.home)
    if not rows and not as_json:
        note("each run learned one task, so there is nothing to learn together")
        return
    show([asdict(row) for row in rows], as_json, lambda: _tables(rows))


def _tables(rows: "Sequence[TogetherAdvice]") -> Group:
    columns = ["task", "labels", "others (median)", "amount", "together minus alone", "advice"]
    title = f"Learning together, {rows[0].units:,} shared units for {len(rows)} tasks"
    return Group(table(title, columns, map(_cells, rows)), *map(_line, rows))


def _cells(row: "TogetherAdvice") -> list[Any]:
    found = row.measured
    gain = f"{found.gain:+.2f} [{found.low:+.2f}, {found.high:+.2f}] {found.unit}" if found else "not measured"
    return [row.task, row.labels, row.others, row.amount, gain, WORDS[row.verdict]]


def _line(row: "TogetherAdvice") -> str:
    if row.measured and not row.command:
        return f"{row.task}: {row.measured.source}"
    tends = (
        "tends to pay with such amounts and width" if row.expected else "tends not to pay with such amounts or width"
    )
    return f"{row.task}: learning together {tends}; `{row.command}` measures it"
