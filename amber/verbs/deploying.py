"""Verbs of trained networks outside of the catalog: export-model."""

from functools import partial
from pathlib import Path

import click

from amber.extras import need_extra
from amber.terminal import Screen, show
from amber.verbs.options import using_files, workspace
from curation.catalog.catalog import Catalog
from training.run import Run

__all__ = ["export_model_command"]


@click.command("export-model")
@click.argument("run_", metavar="RUN")
@click.option("--task", "tasks", multiple=True, help="Only the path of this task; may be repeated.")
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
