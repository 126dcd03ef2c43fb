"""The verb `amber triggers`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import pyarrow as pa

from amber.completion import RUN, TASK
from amber.terminal import interval, note, show, table
from amber.verbs.options import grouped, split_option, using_files, workspace
from curation.catalog.catalog import Catalog, check_author
from curation.catalog.event_tables import REQUESTS
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.requests.trigger_arms import rows_to_ask
from curation.requests.triggers import Trigger, Triggers
from training.evaluation.intervals import Figure
from training.imported import beside_of
from training.judging.triggers import FiredTrigger, fired_triggers
from training.run_list import newest_run

__all__ = ["triggers_command"]

SHOWN = 12
"""Pictures of each trigger."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which triggers of which run, on which images."""

    run: str
    names: Sequence[str]
    where: str
    name: str | None
    tasks: Sequence[str]
    against: str
    split: str

    def open(self, now: Snapshot, home: Path) -> tuple[Triggers, list[Trigger]]:
        """The triggers of the run, and those that are chosen."""
        triggers = Triggers.open(now, home, self.run or newest_run(home, now), against=self.against)
        if self.name is not None and not self.where:
            raise BadInput(f"--name {self.name}: names the condition of --where; write one, or leave --name out")
        chosen = triggers.where(self.where, "where" if self.name is None else self.name) if self.where else []
        if self.names or not self.where:
            chosen += triggers.named(self.names)
        for task in self.tasks:
            triggers.check_task(task)
        return triggers, [part for part in chosen if not self.tasks or part.task in self.tasks]


chosen = grouped(
    "chosen", Chosen,
    click.argument("run", default="", type=RUN),
    click.option(
        "--trigger", "names", multiple=True, metavar="NAME",
        help="flicker, disagree, contradiction, against_label, or a slice that reads predictions; default: all.",
    ),
    click.option("--where", default="", metavar="PREDICATE", help="A condition that is not declared, as a trigger."),
    click.option("--name", metavar="NAME", help="What to call the condition of --where; default: where."),
    click.option("--task", "tasks", multiple=True, type=TASK, help="Triggers of labels of this task; default: all."),
    click.option(
        "--against", default="", metavar="RUN", type=RUN, help="The run that `disagree` and pred_other.TASK read."
    ),
    split_option,
)  # fmt: skip


@click.command("triggers")
@chosen
@click.option("--ask", type=int, metavar="N", help="Request N labels of training images that fire.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.html", help="Write what fires as pictures.")
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Author of the requests (AMBER_AUTHOR).")
@workspace
@using_files
def triggers_command(
    chosen: Chosen, ask: int | None, out: Path | None, author: str, home: str, as_json: bool
) -> None:  # fmt: skip
    """Show what fires of conditions over the predictions of RUN (default: the newest), and whether it errs there.

    Built in are flicker between frames of a group, disagree with another run, contradiction between two tasks, and
    against_label; every slice that reads predictions is a trigger too. Beside the error where one fires stands that on
    as many images of the lowest confidence.

    \b
    amber triggers --trigger flicker --task light --ask 20
    amber triggers --where "pred.light = 'none' AND pred.light_color <> 'none'"
    amber slices add gone "pred_before.car AND NOT pred.car AND pred_after.car" --task car
    """
    if ask is not None:
        check_author(author)
    if ask is not None and chosen.split not in ("", "train"):
        raise BadInput(f"--ask {ask}: requests labels of training images, not of {chosen.split}; leave --split out")
    catalog = Catalog.open(home)
    with catalog.read() as now:
        triggers, parts = chosen.open(now, catalog.home)
        hidden = triggers.hidden
        found = fired_triggers(now, catalog.home, triggers, parts, split=chosen.split)
        rows = rows_to_ask(now, catalog.home, triggers, parts, ask) if ask is not None else []
        if out:
            _write(now, found, triggers.run, out)
    if rows:
        with catalog.commit(
            author=author, message=f"ask for {len(rows)} labels by triggers of {triggers.run}"
        ) as change:
            change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
    if (beside := beside_of(catalog.home, triggers.run)) and not as_json:
        note(beside)
    data = {"run": triggers.run, "triggers": [asdict(part) for part in found], "requested": len(rows)}
    title = f"Triggers of run {triggers.run} on {chosen.split or 'all images'}"
    title += f"; {len(rows):,} labels requested" if rows else ""
    for name in () if as_json else sorted({*chosen.names} - {part.trigger for part in found}):
        note(f"trigger {name}: can fire for no task of this run")
    for name in () if as_json else hidden:
        note(f"slice {name}: a built-in trigger has its name, so it is none; declare it under another name")
    columns = ["trigger", "fired", "of", "groups", "labelled", "error", "of the others", "of the least sure"]
    show(data, as_json, lambda: table(title, columns, [_cells(part) for part in found]))


def _cells(part: FiredTrigger) -> list[object]:
    return [
        f"{part.trigger} of {part.task}", part.fired, part.could, part.groups, part.known, _interval(part, part.error),
        _interval(part, part.others), _interval(part, part.least_sure),
    ]  # fmt: skip


def _interval(part: FiredTrigger, figure: Figure) -> str:
    """An error with its interval: a share, or the mean distance of numbers; nothing without data."""
    return "" if figure.value is None else interval({"metric": "mae" if part.unit else "error", **vars(figure)})


def _write(now: Snapshot, found: Sequence[FiredTrigger], run: str, out: Path) -> None:
    """A page of what fires, one image of each group first."""
    from amber.picture_page import PictureRow, write_pictures

    places = {row["key"]: row["location"] for row in now.samples().select(["key", "location"]).to_pylist()}
    rows = [
        PictureRow(title=f"{part.trigger}: {part.task}", pictures=[(places[key], [key]) for key in part.keys[:SHOWN]])
        for part in found
        if part.fired
    ]
    write_pictures(out, f"Triggers of run {run}", rows)
