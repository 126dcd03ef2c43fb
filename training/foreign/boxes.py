"""Predicted boxes: from COCO's results JSON, or from a table with a row for each box, checked row by row."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as checked

from curation.arrays import Bools, Floats, Ints
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.ingestion.box_check import SUSPECT
from curation.ingestion.readers.cells import numbers
from curation.ingestion.readers.findings import BadEntry, Findings
from curation.ingestion.readers.image_paths import key_of
from curation.ingestion.readers.json_files import read_document
from curation.ingestion.readers.table_files import SourceTable
from training.evaluation.predictions import BOXES
from training.foreign.statements import positions

__all__ = ["BOX_COLUMNS", "BoxStatement", "box_statement", "coco_results"]

SIDES: Final = ("x", "y", "w", "h")
BOX_COLUMNS: Final = ("key", "class", *SIDES, "score")

Id = int | str


@checked(frozen=True, slots=True)
class _Result:
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    score: float


@checked(frozen=True, slots=True)
class _Image:
    id: Id
    file_name: str


@checked(frozen=True, slots=True)
class _Category:
    id: Id
    name: str


@checked(frozen=True, slots=True)
class _Annotations:
    images: list[_Image]
    categories: list[_Category]


_RESULTS = TypeAdapter(list[_Result])
_ANNOTATIONS = TypeAdapter(_Annotations)


@dataclass(frozen=True, kw_only=True)
class BoxStatement:
    """The boxes that a file predicts for one task: positions in the catalog's keys of n images, ascending, the list of
    boxes of each as Arrow (a list of `BOXES`, the highest score first), and notes for whoever imports them."""

    task: Task
    samples: Ints
    boxes: pa.Array
    notes: tuple[str, ...] = ()


def coco_results(path: Path, annotations: Path, samples: pa.Table) -> SourceTable:
    """COCO's results as a table of boxes, and a row without a box for each image without a result.

    The annotation file names the images and categories that the results refer to. An image is the sample whose key its
    file name gives, or else the only one with this name in any folder. BadInput names the entry (from 0).
    """
    results = read_document(path, _RESULTS, "a COCO results file (image_id, category_id, bbox and score of each box)")
    if not results:
        raise BadInput(f"{path.name}: has no entry, so it predicts nothing; export it again")
    named = read_document(annotations, _ANNOTATIONS, "a COCO file with images and categories")
    keys, classes = _keys(named.images, samples), {part.id: part.name for part in named.categories}
    for number, result in enumerate(results):
        origin = f"{path.name} entry {number}"
        if result.category_id not in classes:
            raise BadEntry(origin, f"category_id {result.category_id!r}", f"is not in {annotations.name}", "correct it")
        if keys.get(result.image_id) is None:
            known = result.image_id in keys
            rule = "is no sample of the catalog" if known else f"is not in {annotations.name}"
            raise BadEntry(origin, f"image_id {result.image_id!r}", rule, "ingest the image, or leave it out")
    seen = {result.image_id for result in results}
    rest = [key for id_, key in keys.items() if key is not None and id_ not in seen]
    columns: dict[str, list[object]] = {
        "key": [*(keys[result.image_id] for result in results), *rest],
        "class": [*(classes[result.category_id] for result in results), *(None for _ in rest)],
        "score": [*(result.score for result in results), *(None for _ in rest)],
        **{
            side: [*(result.bbox[place] for result in results), *(None for _ in rest)]
            for place, side in enumerate(SIDES)
        },
    }
    types = {"key": pa.string(), "class": pa.string()}
    table = pa.table({name: pa.array(column, types.get(name, pa.float64())) for name, column in columns.items()})
    return SourceTable(name=path.name, table=table, word="entry", numbers=pa.array(np.arange(len(table))))


def _keys(images: list[_Image], samples: pa.Table) -> dict[Id, str | None]:
    """The key of the sample of each image of an annotation file, None where the catalog has none."""
    known = set(samples["key"].to_pylist())
    datasets = sorted(set(samples["dataset"].to_pylist()))
    by_name: dict[str, list[str]] = {}
    for key in known:
        by_name.setdefault(PurePosixPath(key).name, []).append(key)
    found: dict[Id, str | None] = {}
    for image in images:
        own = [key for dataset in datasets if (key := key_of(dataset, image.file_name)) in known]
        if not own:
            own = by_name.get(PurePosixPath(key_of("", image.file_name)).name, [])
        found[image.id] = own[0] if len(own) == 1 else None
    return found


def box_statement(source: SourceTable, task: Task, samples: pa.Table) -> BoxStatement:
    """The boxes of a table: `BOX_COLUMNS`, a row for each box, in pixels of the upright image.

    A row with a key alone is an image in which the model found nothing. BadInput names the row: an unknown sample or
    class, a number that is not finite, a width or height that is not above 0, a score outside [0, 1], a box outside its
    image, and a row with some of the columns only.
    """
    for name in source.table.column_names:
        if name not in BOX_COLUMNS:
            raise BadInput(
                f"{source.name}: column {name!r} is none of boxes; they are {', '.join(BOX_COLUMNS)}; leave it out"
            )
    images = positions(source, samples["key"].combine_chunks())
    given = _given(source)
    rows = np.flatnonzero(given)
    codes = _codes(source, task, rows)
    corners = np.stack([_numbers(source, side, rows) for side in SIDES], axis=1)
    scores = _numbers(source, "score", rows)
    _check(source, rows, corners, scores)
    sizes = np.stack([samples[name].to_numpy() for name in ("width", "height")], axis=1)[images[rows]]
    notes = _check_places(source, rows, corners, sizes)
    order = np.lexsort((-scores, images[rows]))
    listed, counts = np.unique(images[rows], return_counts=True)
    every = np.unique(images)
    lengths = np.zeros(len(every), np.int64)
    lengths[np.searchsorted(every, listed)] = counts
    boxes = pa.ListArray.from_arrays(
        pa.array(np.r_[0, np.cumsum(lengths)], pa.int32()), _structs(codes[order], corners[order], scores[order])
    )
    return BoxStatement(task=task, samples=every, boxes=boxes, notes=notes)


def _structs(codes: Ints, corners: Floats, scores: Floats) -> pa.Array:
    columns = [pa.array(codes, pa.int32()), *(pa.array(corners[:, place]) for place in range(4)), pa.array(scores)]
    return pa.StructArray.from_arrays(columns, fields=list(BOXES.type.value_type))


def _given(source: SourceTable) -> Bools:
    """Which rows hold a box; the others hold a key alone."""
    valid = np.stack([source.column(name).is_valid().to_numpy() for name in BOX_COLUMNS[1:]])
    some: Bools = np.asarray(valid.any(axis=0), np.bool_)
    _refuse(source, np.arange(len(some)), some & ~valid.all(axis=0), "the box", "lacks some of its columns",
            f"write {', '.join(BOX_COLUMNS[1:])}, or the key alone where there is no box")  # fmt: skip
    return some


def _codes(source: SourceTable, task: Task, rows: Ints) -> Ints:
    column = source.column("class").cast(pa.string()).take(pa.array(rows))
    codes = pc.fill_null(pc.index_in(column, value_set=pa.array(task.classes)), -1).to_numpy()
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        rule = f"is no class of {task.name}"
        raise BadEntry(source.where(int(rows[row])), repr(column[row].as_py()), rule, f"they are {_few(task.classes)}")
    return np.asarray(codes, np.int64)


def _few(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:12]) + (f" and {len(classes) - 12} more" if len(classes) > 12 else "")


def _numbers(source: SourceTable, name: str, rows: Ints) -> Floats:
    column = source.column(name).take(pa.array(rows))
    found = numbers(column, name, lambda row: source.where(int(rows[row])), Findings())
    return np.asarray(found.to_numpy(), np.float64)


def _check(source: SourceTable, rows: Ints, corners: Floats, scores: Floats) -> None:
    values = np.concatenate([corners, scores[:, None]], axis=1)
    finite = np.isfinite(values)
    names = (*SIDES, "score")
    if not finite.all():
        row = int((~finite.all(axis=1)).argmax())
        at = int((~finite[row]).argmax())
        raise BadEntry(
            source.where(int(rows[row])), f"{names[at]} = {values[row, at]}", "is no finite number", "correct it"
        )
    for place in (2, 3):
        _refuse(source, rows, corners[:, place] <= 0, lambda row, at=place: f"{SIDES[at]} = {corners[row, at]:g}",
                "must be above 0", "write left, top, width and height")  # fmt: skip
    _refuse(source, rows, (scores < 0) | (scores > 1), lambda row: f"score = {scores[row]:g}", "must be in [0, 1]",
            "correct it")  # fmt: skip


def _check_places(source: SourceTable, rows: Ints, corners: Floats, sizes: npt.NDArray[np.int32]) -> tuple[str, ...]:
    """BadInput for a box outside its image and for fractions instead of pixels; a note on boxes that reach outside."""
    low, high = corners[:, :2], corners[:, :2] + corners[:, 2:]
    outside = np.asarray(((low >= sizes) | (high <= 0)).any(axis=1), np.bool_)
    _refuse(source, rows, outside, lambda row: f"box {corners[row].tolist()}",
            "lies outside its image", "write left, top, width and height in pixels")  # fmt: skip
    if len(high) and high.max() <= SUSPECT:
        value = ", ".join(f"{side} = {each:g}" for side, each in zip(SIDES, corners[0].tolist(), strict=True))
        rule = f"end within {SUSPECT} pixels of the corner and look like fractions"
        raise BadEntry(source.where(int(rows[0])), f"{value}: all {len(high):,} boxes", rule, "write pixels")
    over = int(((low < -1) | (high > sizes + 1)).any(axis=1).sum())
    if not over:
        return ()
    return (f"{over:,} of {len(rows):,} boxes reach outside their image: are the sides left, top, width and height?",)


def _refuse(source: SourceTable, rows: Ints, wrong: Bools, value: object, rule: str, fix: str) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        text = value(row) if callable(value) else str(value)
        raise BadEntry(source.where(int(rows[row])), text, rule, fix)
