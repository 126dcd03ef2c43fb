"""Verbs of predictions from elsewhere: predictions import."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from amber.completion import TASK
from amber.tables import figures_table
from amber.terminal import Screen, note, show
from amber.verbs.options import author, grouped, using_files, workspace
from curation.catalog.catalog import Catalog

if TYPE_CHECKING:
    from training.foreign.imports import ImportedFigures

__all__ = ["predictions_group"]


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Options of the model whose predictions are imported."""

    name: str
    task: str
    trained_on: Path | None
    annotations: Path | None


import_options = grouped(
    "options", ImportOptions,
    click.option("--name", required=True, metavar="MODEL", help="Name of the model."),
    click.option("--task", default="", type=TASK, help="The task of a table that names none, or of boxes."),
    click.option(
        "--trained-on", type=click.Path(path_type=Path), metavar="FILE",
        help="Keys of the images that the model was trained on, one a line; default: unknown.",
    ),
    click.option(
        "--annotations", type=click.Path(path_type=Path), metavar="FILE",
        help="The COCO file with the images and categories that COCO results refer to.",
    ),
)  # fmt: skip


@click.group("predictions")
def predictions_group() -> None:
    """Predictions of models that Amber did not train: `import` makes a run of a file."""


@predictions_group.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@import_options
@author
@workspace
@using_files
def import_command(file: Path, options: ImportOptions, author: str, home: str, as_json: bool) -> None:
    """Make a run of the predictions in FILE (Parquet, CSV, npz or COCO results) and record its figures on every slice.

    The run has no plan. Where nobody declares what its model was trained on, that stands beside each of its figures.
    """
    from training.foreign.imports import import_predictions

    catalog = Catalog.open(home)
    screen = Screen(quiet=as_json)
    with screen.stages():
        made = import_predictions(
            catalog, file, name=options.name, author=author, task=options.task, trained_on=options.trained_on,
            annotations=options.annotations, progress=partial(_tell, screen),
        )  # fmt: skip
    for line in () if as_json else made.notes:
        note(line)
    _show(made, as_json)


def _tell(screen: Screen, stage: str, done: int, total: int) -> None:
    screen.tell(stage, done, total)


def _show(made: "ImportedFigures", as_json: bool) -> None:
    run, origin = made.run, {"trained_on": made.run.trained_on}
    figures = [{**row, **origin} for row in made.figures.to_pylist()]
    predicted = ", ".join(f"{task} {count:,}" for task, count in run.tasks.items())
    title = f"Run {run.id}: predictions of {run.model} ({predicted})"
    shown = {"run": run.id, "model": run.model, **origin, "tasks": run.tasks, "notes": made.notes, "figures": figures}
    show(shown, as_json, lambda: figures_table(title, figures))
