"""The verb `amber discover`."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from amber.completion import RUN, TASK
from amber.terminal import interval, note, show, table
from amber.verbs.options import seeded, using_files, workspace
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from training.evaluation.intervals import Figure
from training.judging.undeclared_slices import UndeclaredSlice, undeclared_slices
from training.run_list import newest_run

if TYPE_CHECKING:
    from curation.fiftyone_app.columns import Finding

__all__ = ["discover_command"]


@click.command("discover")
@click.argument("run", required=False, default="", type=RUN)
@click.option("--task", "tasks", multiple=True, type=TASK, help="Search the errors of this task; default: of each.")
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="validation",
    show_default=True,
    help="Whose images are searched. A slice chosen on test makes its figure there look worse than it is.",
)
@click.option("--embeddings", default="", metavar="MODEL", help="Search clusters of these embeddings too.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.html", help="Write examples of each as pictures.")
@click.option("--app", is_flag=True, help="Then open the slices in the FiftyOne App.")
@seeded
@workspace
@using_files
@click.pass_context
def discover_command(
    context: click.Context, run: str, tasks: Sequence[str], split: str, embeddings: str, out: Path | None, app: bool,
    seed: int, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Find slices that nobody declared on which RUN (default: the newest) errs more than elsewhere.

    A slice joins up to three conditions on attributes, labels of other tasks and predictions. It is sought on half of
    the groups and confirmed on the other half, and of all that are shown at most 5% are expected to be false.
    """
    catalog = Catalog.open(home)
    with catalog.read() as now:
        chosen = now.runs.full_id(run or newest_run(catalog.home, now))
        found = undeclared_slices(now, catalog.home, chosen, split=split, tasks=tasks, embeddings=embeddings, seed=seed)
        if out:
            _write(now, found, chosen, out)
        views = _views(now, catalog.home, chosen, found, split) if app else []
    if not found and not as_json:
        note(f"run {chosen}: errs on no slice of {split} surely more than elsewhere")
    data = {"run": chosen, "split": split, "slices": [asdict(part) for part in found]}
    columns = ["", "task", "images", "groups", "error inside", "outside", "false rate"]
    title = f"Slices of {split} on which run {chosen} errs"
    cells = [_cells(number, part) for number, part in enumerate(found, 1)]
    show(data, as_json, lambda: table(title, columns, cells))
    for number, part in enumerate(() if as_json else found, 1):
        click.echo(f"{number}. {_command(part)}")
    if app:
        from amber.verbs.browse import browse_findings

        browse_findings(context, views, run=chosen, home=home, as_json=as_json)


def _views(now: Snapshot, home: Path, run: str, found: Sequence[UndeclaredSlice], split: str) -> "list[Finding]":
    from amber.findings import slice_findings

    return slice_findings(now, found, predictions=str(now.runs.predictions_file(home, run)), split=split)


def _command(part: UndeclaredSlice) -> str:
    """The command that declares a slice."""
    if not part.predicate:
        return f"{part.name}: look at the pictures of --out FILE.html"
    return shlex.join(["amber", "slices", "add", part.name, part.predicate, "--task", part.task])


def _cells(number: int, part: UndeclaredSlice) -> list[Any]:
    return [
        number,
        part.task,
        part.images,
        part.groups,
        _interval(part.error),
        _interval(part.outside),
        f"{part.q:.2g}",
    ]


def _interval(figure: Figure) -> str:
    return interval({"metric": "error", **vars(figure)})


def _write(now: Snapshot, found: Sequence[UndeclaredSlice], run: str, out: Path) -> None:
    """A page of the images with the largest errors of each slice."""
    from amber.picture_page import PictureRow, write_pictures

    places = {row["key"]: row["location"] for row in now.samples().select(["key", "location"]).to_pylist()}
    rows = [
        PictureRow(
            title=f"{part.task}: {part.predicate or part.name}",
            pictures=[(places[key], [key]) for key in part.examples],
        )
        for part in found
    ]
    write_pictures(out, f"Slices on which run {run} errs", rows)
