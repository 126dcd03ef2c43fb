"""What the catalog knows, written for other programs: tables (Parquet, CSV), labels one by one, and COCO.

Files appear whole or not at all. Unknown is an empty cell, or an image that is left out: never a negative.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from curation.catalog.event_tables import LABELS
from curation.catalog.schema import KNOWN, STATES
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.files.atomic import whole

__all__ = ["WRITERS", "long_table", "wide_table", "write_coco", "write_csv", "write_parquet"]

Ids = npt.NDArray[np.int64]

FIRST: Final = ("key", "location", "dataset", "sha256", "width", "height")


def wide_table(now: Snapshot, *, ids: Ids | None = None, tasks: Sequence[str] = ()) -> pa.Table:
    """A row for each sample (of `ids`; default: all) by key: what it is, its attributes, and a column for each task.

    A label is a bool, a string, a number, a list of class names, or a list of boxes (pixels of the upright image); null
    where it is unknown or has no value. A task with unsure or inapplicable labels has a further column `state.TASK`
    (known, unsure, inapplicable, unknown).
    """
    samples = _chosen(now, ids)
    columns = {name: samples[name] for name in FIRST}
    for name in now.attributes():
        columns[name] = _placed(now.column("attr", name), samples)
    for name in tasks or now.tasks():
        family = "boxes" if now.task(name).kind == "detection" else "label"
        columns[name] = _placed(now.column(family, name), samples)
        if pc.any(pc.not_equal(now.labels(name)["state"], KNOWN)).as_py():
            columns[f"state.{name}"] = pc.fill_null(_placed(now.column("state", name), samples), "unknown")
    return pa.table(columns)


def long_table(now: Snapshot, *, ids: Ids | None = None, tasks: Sequence[str] = ()) -> pa.Table:
    """A row for each annotator's newest label, with the columns of `LABELS` and `source`: what a reader takes in again.

    By task, then sample.
    """
    samples = _chosen(now, ids)
    keys = samples.select(["sample_id", "key"])
    parts = [_said(now, name, keys) for name in tasks or now.tasks()]
    return pa.concat_tables(parts) if parts else LABELS.append(pa.field("source", pa.string())).empty_table()


def write_parquet(now: Snapshot, path: Path, *, ids: Ids | None = None, tasks: Sequence[str] = ()) -> int:
    """`wide_table` as one Parquet file; returns how many samples."""
    return _write(wide_table(now, ids=ids, tasks=tasks), path, lambda table, part: pq.write_table(table, part))


def write_labels(now: Snapshot, path: Path, *, ids: Ids | None = None, tasks: Sequence[str] = ()) -> int:
    """`long_table` as one Parquet file; returns how many labels."""
    return _write(long_table(now, ids=ids, tasks=tasks), path, lambda table, part: pq.write_table(table, part))


def write_csv(now: Snapshot, path: Path, *, ids: Ids | None = None, tasks: Sequence[str] = ()) -> int:
    """`wide_table` as CSV, lists as JSON; returns how many samples."""
    table = wide_table(now, ids=ids, tasks=tasks)
    flat = [_as_json(column) if pa.types.is_nested(column.type) else column for column in table.columns]
    return _write(pa.table(flat, table.column_names), path, lambda table, part: pacsv.write_csv(table, part))


def write_coco(now: Snapshot, path: Path, *, ids: Ids | None = None, tasks: Sequence[str] = ()) -> int:
    """Boxes of one detection task as COCO's instances (Lin et al., ECCV 2014); returns how many images.

    Only images of which the task is known are in it: those without annotations hold none. BadInput unless `tasks` names
    one detection task, or the catalog has but one.
    """
    named = list(tasks) or [name for name, task in now.tasks().items() if task.kind == "detection"]
    if len(named) != 1 or now.task(named[0]).kind != "detection":
        raise BadInput(
            f"task {', '.join(named) or 'none'}: COCO holds the boxes of one detection task; pass --task NAME"
        )
    task = now.task(named[0])
    samples = _chosen(now, ids)
    boxes = _placed(now.column("boxes", task.name), samples)
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


def _chosen(now: Snapshot, ids: Ids | None) -> pa.Table:
    samples = now.samples()
    return samples if ids is None else samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(ids)))


def _placed(values: pa.Table, samples: pa.Table) -> pa.ChunkedArray:
    """The values of a table (sample_id, value) in the order of `samples`, null where there is none."""
    return values["value"].take(pc.index_in(samples["sample_id"], value_set=values["sample_id"].combine_chunks()))


def _said(now: Snapshot, task: str, keys: pa.Table) -> pa.Table:
    said = now.labels.by_annotator(task)
    classes, kind = pa.array(now.task(task).classes, pa.string()), now.task(task).kind
    rows = pc.index_in(said["sample_id"], value_set=keys["sample_id"].combine_chunks())
    said = said.append_column("key", keys["key"].take(rows)).filter(pc.is_valid(rows))
    columns: dict[str, Any] = {name: said[name] for name in ("key", "number", "annotator", "confidence", "labelled_at")}
    name_of = {code: name for name, code in STATES.items()}
    columns |= {"task": pa.array([task] * len(said), pa.string()), "source": said["source"]}
    columns["state"] = pa.array([name_of[state] for state in said["state"].to_pylist()], pa.string())
    if kind in ("binary", "categorical"):
        columns["text"] = classes.take(said["code"].combine_chunks())
    if kind == "multilabel":
        columns["names"] = _renamed(said["codes"].combine_chunks(), lambda codes: classes.take(codes))
    if kind == "detection":
        columns["boxes"] = _renamed(said["boxes"].combine_chunks(), lambda boxes: _named_boxes(boxes, classes))
    schema = LABELS.append(pa.field("source", pa.string()))
    return pa.table(
        [
            columns[field.name].cast(field.type) if field.name in columns else pa.nulls(len(said), field.type)
            for field in schema
        ],
        schema=schema,
    )


def _renamed(lists: pa.ListArray, rename: Callable[[pa.Array], pa.Array]) -> pa.ListArray:
    """The same lists, null where they are, with other content."""
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


def _as_json(column: pa.ChunkedArray) -> pa.Array:
    """Lists as JSON, null where they are."""
    return pa.array([None if value is None else json.dumps(value, default=dict) for value in column.to_pylist()])


def _write(table: pa.Table, path: Path, write: Callable[[pa.Table, Path], None]) -> int:
    with whole(path) as part:
        write(table, part)
    return len(table)
