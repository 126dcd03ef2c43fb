"""Verbs of trained networks outside of the catalog: export-model, predict."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from amber.completion import RUN, TASK
from amber.extras import need_extra
from amber.terminal import Screen, note, plain, show, table
from amber.verbs.options import using_files, workspace
from curation.catalog.catalog import Catalog
from curation.files.atomic import whole
from training.run import Run

if TYPE_CHECKING:
    from training.deployment.prediction import Predicted

__all__ = ["export_model_command", "predict_command"]


@click.command("export-model")
@click.argument("run_", metavar="RUN", type=RUN)
@click.option("--task", "tasks", multiple=True, type=TASK, help="Only the path of this task; may be repeated.")
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@workspace
@using_files
def export_model_command(run_: str, tasks: tuple[str, ...], folder: Path, home: str, as_json: bool) -> None:
    """Write the network of RUN into a new folder: ONNX, torch.export, safetensors, and what they mean as JSON.

    Both networks go from pixels to natural probabilities and numbers. The folder appears once ONNX Runtime gives what
    the run recorded.
    """
    catalog = Catalog.open(home)
    run = Run.open(catalog.home, run_)
    need_extra("train")
    need_extra("export")
    from training.deployment.export import export_model

    screen = Screen(quiet=as_json)
    with screen.stages():
        made = export_model(run, catalog, folder, tasks=tasks, progress=partial(screen.tell, "export"))
    found = made.differences
    show(
        {"folder": str(folder), "run": run.id, "tasks": made.tasks, "check": found.words}, as_json,
        lambda: f"{folder}: {len(made.tasks)} task{'s' * (len(made.tasks) != 1)} of run {run.id}\n"
        f"ONNX Runtime differs by at most {found.onnx_recorded:.1g} from the recorded predictions of {found.images:,} "
        "images",
    )  # fmt: skip


@click.command("predict")
@click.argument("run_", metavar="RUN", type=RUN)
@click.argument("place", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--out", default="predictions.parquet", show_default=True, type=click.Path(path_type=Path), help="File to write."
)
@click.option("--pictures", type=click.Path(path_type=Path), metavar="FILE", help="Write an HTML page of pictures too.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the network runs; auto takes a GPU where there is one.",
)
@workspace
@using_files
def predict_command(
    run_: str, place: Path, out: Path, pictures: Path | None, device: str, home: str, as_json: bool
) -> None:
    """Predict the images of FOLDER, or of the data set declared in it, with the network of RUN; not in the catalog.

    Each image gets its predictions and a rank from 0 to 1: how unlike the training images it is. What cannot be read is
    listed, and the exit code is 2.
    """
    catalog = Catalog.open(home)
    run = Run.open(catalog.home, run_)
    need_extra("train")
    from training.deployment.pictures import write_pictures
    from training.deployment.prediction import images_of, predict_images
    from training.loop.ranks import joined

    screen = Screen(quiet=as_json)
    with screen.stages(), joined(rank=0, world=1, device=device) as ranks:
        images, refused = images_of(place, screen.tell)
        found = predict_images(run, catalog, images, device=ranks.device, progress=screen.tell)
        with whole(out) as part:
            pq.write_table(found.table, part)
        if pictures:
            write_pictures(found, run.id, pictures)
    for line in refused:
        note(f"left out {line}")
    for missing in found.unreadable:
        click.echo(f"cannot be read {missing.path}: {missing.reason}", err=True)
    shown = {
        "run": run.id, "file": str(out), "images": found.images,
        "unlike": None if np.isnan(found.unlike) else found.unlike,
        "unreadable": [{"path": str(part.path), "reason": part.reason} for part in found.unreadable],
        "left_out": refused, "paired": found.paired, "pictures": str(pictures) if pictures else None,
    }  # fmt: skip
    written = f"{out}: {found.images:,} images by run {run.id}" + (f"; pictures in {pictures}" if pictures else "")
    if found.paired is not None:
        written += f"; {found.paired:,} with the frame before"
    rows = _by_task(found)
    columns = ["task", "predicted", "mean confidence"]
    show(shown, as_json, lambda: table(f"{written}\n{found.unlike_text}", columns, rows))
    if found.unreadable or refused:
        raise click.exceptions.Exit(2)


SURE = 0.5
"""The score from which on a box counts in the table."""


def _by_task(found: "Predicted") -> list[list[Any]]:
    """What was predicted, a row for each task."""
    rows = []
    for name in pc.unique(found.table["task"]).to_pylist():
        mine = found.table.filter(pc.equal(found.table["task"], name))
        if "boxes" in mine.column_names and mine["boxes"].null_count < len(mine):
            scores = pc.struct_field(pc.list_flatten(mine["boxes"]), "score").to_numpy()
            rows.append([name, f"{int((scores >= SURE).sum()):,} boxes with a score of at least {SURE:g}", None])
        elif mine["class"].null_count == len(mine):
            low, middle, high = np.quantile(mine["number"].to_numpy(), [0, 0.5, 1])
            rows.append([name, f"{low:.4g} to {high:.4g}, median {middle:.4g}", None])
        else:
            counts = {part["values"]: part["counts"] for part in pc.value_counts(mine["class"]).to_pylist()}
            most = dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
            rows.append([name, plain(most), float(pc.mean(mine["confidence"]).as_py())])
    return rows
