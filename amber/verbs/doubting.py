"""The verb `amber doubts`."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import click
import pyarrow as pa

from amber.completion import RUN, TASK
from amber.doubts import DoubtedLabel, Doubting, doubted, rows_to_ask
from amber.terminal import note, show, table
from amber.verbs.options import grouped, using_files, workspace
from curation.catalog.catalog import Catalog, check_author
from curation.catalog.event_tables import REQUESTS
from training.run_list import newest_run

__all__ = ["doubts_command"]

SHOWN = 50
"""Doubts in the table; --json has all."""

doubting = grouped(
    "doubting", Doubting,
    click.argument("run", default="", type=RUN),
    click.option(
        "--split", type=click.Choice(["train", "validation", "test"]), default="train", show_default=True,
        help="Whose labels are doubted.",
    ),
    click.option(
        "--task", "tasks", multiple=True, type=TASK, help="Doubt labels of this task; default: all that RUN predicts."
    ),
    click.option(
        "--by", type=click.Choice(["group", "image"]), default="group", show_default=True,
        help="What was labelled in one go, and so is wrong together.",
    ),
    click.option("--embeddings", default="", metavar="MODEL", help="Features for a run that learned from pixels."),
)  # fmt: skip


@click.command("doubts")
@doubting
@click.option("--app", is_flag=True, help="Then open the doubted images in the FiftyOne App.")
@click.option("--ask", type=int, metavar="N", help="Ask again for one label of each of the N surest doubts.")
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Author of the requests (AMBER_AUTHOR).")
@workspace
@using_files
@click.pass_context
def doubts_command(
    context: click.Context, doubting: Doubting, ask: int | None, app: bool, author: str, home: str, as_json: bool
) -> None:
    """List labels that are likely wrong, by RUN (default: the newest).

    Labels that RUN was trained on are predicted again by heads that did not see them, in five folds of whole groups;
    all others by RUN. Boxes are doubted where one is missing, spurious or badly placed. Asking again is a change like
    any other: `amber compare` tells whether it helped.
    """
    if ask is not None:
        check_author(author)
    catalog = Catalog.open(home)
    with catalog.read() as now:
        run = now.runs.full_id(doubting.run) if doubting.run else newest_run(catalog.home, now)
        doubting = replace(doubting, run=run)
        found, notes = doubted(catalog, now, doubting)
        rows = rows_to_ask(now, found, ask, doubting) if ask is not None else []
    if rows:
        with catalog.commit(author=author, message=f"ask again for {len(rows)} labels that run {run} doubts") as change:
            change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
    for line in () if as_json else notes:
        note(line)
    data = {"run": run, "notes": notes, "doubts": [asdict(part) for part in found], "requested": len(rows)}
    title = f"{len(found):,} doubts of labels of {doubting.split} by run {run}"
    title += f"; the first {SHOWN}" if len(found) > SHOWN else ""
    title += f"; {len(rows):,} labels requested again" if rows else ""
    columns = ["task", "what", "given", "predicted", "doubt", "sure", "images", "first image"]
    show(data, as_json, lambda: table(title, columns, _cells(found)))
    if app:
        from amber.findings import doubt_findings
        from amber.verbs.browse import browse_findings

        browse_findings(context, doubt_findings(found, run), run=run, home=home, as_json=as_json)


def _cells(found: Sequence[DoubtedLabel]) -> list[list[object]]:
    return [
        [
            part.task, part.what, part.given, part.suggested, f"{part.doubt:.2f}", "yes" if part.sure else "",
            len(part.keys), part.keys[0],
        ] for part in found[:SHOWN]
    ]  # fmt: skip
