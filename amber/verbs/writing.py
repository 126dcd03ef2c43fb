"""The verb `amber write`."""

import json
from functools import partial
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from amber.completion import SLICE, TASK
from amber.terminal import show
from amber.verbs.options import workspace
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.files.atomic import whole
from curation.ingestion.writers import WRITERS, without_formulas, write_csv

__all__ = ["write_command"]


@click.command("write")
@click.argument("kind", metavar="FORMAT", type=click.Choice(sorted(WRITERS)))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--task", "tasks", multiple=True, type=TASK, help="Only this task; may be repeated.")
@click.option("--slice", "slice_", default="", type=SLICE, help="Only the samples of this slice.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), help="Only the samples of this split.")
@click.option("--commit", type=int, help="As of this commit.")
@click.option("--formulas", is_flag=True, help="Keep text in a CSV that a spreadsheet would run as a formula.")
@workspace
def write_command(
    kind: str, out: Path, tasks: tuple[str, ...], slice_: str, split: str | None, commit: int | None, formulas: bool,
    home: str, as_json: bool,
) -> None:  # fmt: skip
    """Write labels into the file OUT: a table (parquet, csv), boxes (coco), or each annotator's labels (labels).

    FORMAT labels writes CSV when OUT ends in .csv, and Parquet otherwise. An unknown label is an empty cell, or an
    image that is left out: never a negative.
    """
    as_csv = out.suffix.lower() == ".csv"
    if formulas and kind != "csv" and not (kind == "labels" and as_csv):
        raise BadInput(f"--formulas: only for CSV, and {kind} is written; leave it out")
    write = partial(write_csv, formulas=True) if formulas and kind == "csv" else WRITERS[kind]
    with Catalog.open(home).read(commit) as now:
        count = write(now, out, ids=_members(now, slice_, split), tasks=tasks)
    if kind == "labels" and as_csv:
        _to_csv(out, formulas=formulas)
    show({"file": str(out), "rows": count}, as_json, lambda: f"{out}: {count:,} rows")


def _members(now: Snapshot, slice_: str, split: str | None) -> npt.NDArray[np.int64] | None:
    """Ids of the samples in a slice and a split; None for all samples."""
    if not slice_ and not split:
        return None
    samples = now.samples()
    inside = samples.filter(pc.equal(samples["split"], split)) if split else samples
    ids = np.asarray(inside["sample_id"].to_numpy(), np.int64)
    return np.intersect1d(ids, now.members(now.slice(slice_).predicate)) if slice_ else ids


def _to_csv(path: Path, *, formulas: bool) -> None:
    """Turn a Parquet file into CSV in place; lists become JSON."""
    table = pq.read_table(path)
    for index, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            cells = [None if cell is None else json.dumps(cell) for cell in table.column(index).to_pylist()]
            table = table.set_column(index, field.name, pa.array(cells, pa.string()))
    with whole(path) as part:
        pacsv.write_csv(table if formulas else without_formulas(table), part)
