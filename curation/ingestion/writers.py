"""Exports of the catalog for other programs: tables (Parquet, CSV), single labels, and COCO.

Files appear whole or not at all. Unknown is an empty cell, or an image that is left out: never a negative.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from curation.arrays import Ints
from curation.catalog.event_tables import LABELS
from curation.catalog.schema import KNOWN, STATES
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.files.atomic import whole
from curation.ingestion.readers.findings import Aside

__all__ = [
    "WRITERS",
    "long_table",
    "wide_table",
    "without_formulas",
    "write_asides",
    "write_coco",
    "write_csv",
    "write_parquet",
]


ASIDE: Final = ("file", "entry", "value", "rule")
FIRST: Final = ("key", "location", "dataset", "sha256", "width", "height")


def wide_table(now: Snapshot, *, ids: Ints | None = None, tasks: Sequence[str] = ()) -> pa.Table:
    """One row for each sample (of `ids`; default: all): its key and file, its attributes, and a column for each task.

    A label is a bool, a string, a number, a list of class names, or a list of boxes (pixels of the upright image); null
    where it is unknown or has no value. A task with unsure or inapplicable labels has a further column `state.TASK`
    (known, unsure, inapplicable, unknown), and one of several classes that were not always looked for `looked.TASK`:
    the classes that were, null for all of them.
    """
    samples = _chosen(now, ids)
    columns = {name: samples[name] for name in FIRST}
    for name in now.attributes():
        columns[name] = _in_order(now.column("attr", name), samples)
    for name in tasks or now.tasks():
        family = "boxes" if now.task(name).kind == "detection" else "label"
        columns[name] = _in_order(now.column(family, name), samples)
        if pc.any(pc.not_equal(now.labels(name)["state"], KNOWN)).as_py():
            columns[f"state.{name}"] = pc.fill_null(_in_order(now.column("state", name), samples), "unknown")
        if now.task(name).kind == "multilabel" and (partial := _looked(now, name)):
            columns[f"looked.{name}"] = _in_order(partial, samples)
    return pa.table(columns)


def long_table(now: Snapshot, *, ids: Ints | None = None, tasks: Sequence[str] = ()) -> pa.Table:
    """One row for each annotator's newest label, with the columns of `LABELS` and `source`; a reader can read it back.

    By task, then sample.
    """
    samples = _chosen(now, ids)
    keys = samples.select(["sample_id", "key"])
    parts = [_task_labels(now, name, keys) for name in tasks or now.tasks()]
    return pa.concat_tables(parts) if parts else LABELS.append(pa.field("source", pa.string())).empty_table()


def write_parquet(now: Snapshot, path: Path, *, ids: Ints | None = None, tasks: Sequence[str] = ()) -> int:
    """`wide_table` as one Parquet file; returns how many samples."""
    return _write(wide_table(now, ids=ids, tasks=tasks), path, lambda table, part: pq.write_table(table, part))


def write_labels(now: Snapshot, path: Path, *, ids: Ints | None = None, tasks: Sequence[str] = ()) -> int:
    """`long_table` as one Parquet file; returns how many labels."""
    return _write(long_table(now, ids=ids, tasks=tasks), path, lambda table, part: pq.write_table(table, part))


def write_csv(
    now: Snapshot, path: Path, *, ids: Ints | None = None, tasks: Sequence[str] = (), formulas: bool = False
) -> int:
    """`wide_table` as CSV, lists as JSON; returns how many samples.

    Text that a spreadsheet would run as a formula (it begins with =, +, -, @, a tab or a line break) gets an apostrophe
    in front, unless `formulas` keeps it.
    """
    table = wide_table(now, ids=ids, tasks=tasks)
    flat = [_as_json(column) if pa.types.is_nested(column.type) else column for column in table.columns]
    made = pa.table(flat, table.column_names)
    return _write(made if formulas else without_formulas(made), path, lambda table, part: pacsv.write_csv(table, part))


def write_asides(asides: Sequence[Aside], path: Path) -> int:
    """Quarantined entries as CSV, one row for each: file, entry, value and rule; returns how many."""
    columns = {name: pa.array([getattr(part, name) for part in asides], pa.string()) for name in ASIDE}
    return _write(pa.table(columns), path, lambda table, part: pacsv.write_csv(without_formulas(table), part))


def write_coco(now: Snapshot, path: Path, *, ids: Ints | None = None, tasks: Sequence[str] = ()) -> int:
    """Boxes of one detection task as COCO's instances (Lin et al., ECCV 2014); returns how many images.

    Only images whose task is known are written: an image without annotations holds no object. BadInput unless `tasks`
    names one detection task, or the catalog has exactly one.
    """
    named = list(tasks) or [name for name, task in now.tasks().items() if task.kind == "detection"]
    if len(named) != 1 or now.task(named[0]).kind != "detection":
        raise BadInput(
            f"task {', '.join(named) or 'none'}: COCO holds the boxes of one detection task; pass --task NAME"
        )
    task = now.task(named[0])
    samples = _chosen(now, ids)
    boxes = _in_order(now.column("boxes", task.name), samples)
    known = samples.append_column("boxes", boxes).filter(pc.is_valid(boxes))
    images, annotations = [], []
    for number, row in enumerate(known.to_pylist(), start=1):
        images.append({"id": number, "file_name": row["location"], "width": row["width"], "height": row["height"]})
        annotations += [_annotation(number, box, task.classes) for box in row["boxes"]]
    categories = [{"id": code, "name": name} for code, name in enumerate(task.classes, start=1)]
    content = {
        "info": {"description": task.description or task.name},
        "images": images,
        "annotations": [{"id": number, **each} for number, each in enumerate(annotations, start=1)],
        "categories": categories,
    }
    with whole(path) as part:
        part.write_text(json.dumps(content))
    return len(images)


WRITERS: Final = {"parquet": write_parquet, "csv": write_csv, "coco": write_coco, "labels": write_labels}
"""Writers by the name of their format; each returns how many samples, images or labels it wrote."""


def _chosen(now: Snapshot, ids: Ints | None) -> pa.Table:
    samples = now.samples()
    return samples if ids is None else samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(ids)))


def _in_order(values: pa.Table, samples: pa.Table) -> pa.ChunkedArray:
    """The values of a table (sample_id, value) in the order of `samples`; null where a sample has no value."""
    return values["value"].take(pc.index_in(samples["sample_id"], value_set=values["sample_id"].combine_chunks()))


def _looked(now: Snapshot, task: str) -> pa.Table | None:
    """The classes by name that were looked for in each sample where these are not all: sample_id, value."""
    labels, classes = now.labels(task), pa.array(now.task(task).classes, pa.string())
    partial = labels.filter(pc.is_valid(labels["looked"]))
    if not len(partial):
        return None
    names = _renamed(partial["looked"].combine_chunks(), lambda codes: classes.take(codes))
    return pa.table({"sample_id": partial["sample_id"], "value": names})


def _task_labels(now: Snapshot, task: str, keys: pa.Table) -> pa.Table:
    rows = now.labels.by_annotator(task)
    classes, kind = pa.array(now.task(task).classes, pa.string()), now.task(task).kind
    found = pc.index_in(rows["sample_id"], value_set=keys["sample_id"].combine_chunks())
    rows = rows.append_column("key", keys["key"].take(found)).filter(pc.is_valid(found))
    columns: dict[str, Any] = {name: rows[name] for name in ("key", "number", "annotator", "confidence", "labelled_at")}
    columns |= {"task": pa.array([task] * len(rows), pa.string()), "source": rows["source"]}
    name_of = {code: name for name, code in STATES.items()}
    columns["state"] = pa.array([name_of[state] for state in rows["state"].to_pylist()], pa.string())
    if kind in ("binary", "categorical"):
        columns["text"] = classes.take(rows["code"].combine_chunks())
    if kind == "multilabel":
        for name, column in (("names", "codes"), ("looked", "looked")):
            columns[name] = _renamed(rows[column].combine_chunks(), lambda codes: classes.take(codes))
    if kind == "detection":
        columns["boxes"] = _renamed(rows["boxes"].combine_chunks(), lambda boxes: _named_boxes(boxes, classes))
    schema = LABELS.append(pa.field("source", pa.string()))
    return pa.table(
        [
            columns[field.name].cast(field.type) if field.name in columns else pa.nulls(len(rows), field.type)
            for field in schema
        ],
        schema=schema,
    )


def _renamed(lists: pa.ListArray, rename: Callable[[pa.Array], pa.Array]) -> pa.ListArray:
    """The same lists with renamed items; null lists stay null."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, rename(pc.list_flatten(lists)), mask=pc.is_null(lists))


def _named_boxes(boxes: pa.StructArray, classes: pa.Array) -> pa.StructArray:
    names = classes.take(boxes.field("code"))
    sides = {side: boxes.field(side) for side in ("x", "y", "w", "h", "attributes")}
    return pa.StructArray.from_arrays([names, *sides.values()], ["class", *sides])


def _annotation(image: int, box: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    attributes = dict(box["attributes"] or [])
    return {
        "image_id": image, "category_id": classes.index(box["class"]) + 1,
        "bbox": [box[side] for side in ("x", "y", "w", "h")], "area": box["w"] * box["h"],
        "iscrowd": int(attributes.pop("iscrowd", "0") in ("1", "true")), "attributes": attributes,
    }  # fmt: skip


def without_formulas(table: pa.Table) -> pa.Table:
    """The table with an apostrophe before text that a spreadsheet would run as a formula."""
    columns = []
    for column in table.columns:
        if pa.types.is_string(column.type):
            column = pc.replace_substring_regex(column, r"^([=+\-@\t\r\n])", r"'\1")
        columns.append(column)
    return pa.table(columns, table.column_names)


def _as_json(column: pa.ChunkedArray) -> pa.Array:
    """Lists as JSON; nulls stay null."""
    return pa.array([None if value is None else json.dumps(value, default=dict) for value in column.to_pylist()])


def _write(table: pa.Table, path: Path, write: Callable[[pa.Table, Path], None]) -> int:
    with whole(path) as part:
        write(table, part)
    return len(table)
