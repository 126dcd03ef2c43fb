"""Tables with one row for each box, gathered into one label for each image."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.event_tables import BOX
from curation.ingestion.readers.arrow_types import cast_column
from curation.ingestion.readers.cells import as_text, numbers
from curation.ingestion.readers.declared_tables import BoxTable
from curation.ingestion.readers.findings import Findings
from curation.ingestion.readers.table_files import SourceTable
from curation.ingestion.readers.times import Where

__all__ = ["boxes_of"]


def boxes_of(
    source: SourceTable, keys: pa.ChunkedArray, table: BoxTable, findings: Findings
) -> tuple[pa.Table, pa.Array]:
    """Columns key, task, boxes and origin (of the first row): one label for each key, in order of keys.

    Also returns the origins of the boxes of each label.

    A row without a class marks its image as looked at: with no other row, the image holds no object.
    """
    order = pc.array_sort_indices(keys.combine_chunks())  # stable: boxes of an image keep their order
    ordered = keys.combine_chunks().take(order)
    codes = pc.run_end_encode(ordered) if len(ordered) else None
    ends = np.asarray(codes.run_ends, np.int64) if codes is not None else np.zeros(0, np.int64)
    starts = np.concatenate([[0], ends])[: len(ends)]
    named = as_text(source.column(table.label), table.label, source.where)
    classes = _renamed(named, table.rename).combine_chunks().take(order)
    taken = pc.and_(
        pc.is_valid(classes), pc.invert(pc.is_in(classes, value_set=pa.array(table.leave_out, pa.string())))
    )
    kept = np.asarray(taken)
    columns = _corners(source, table, findings)
    sides = [column.combine_chunks().take(order).filter(taken) for column in columns]
    described = {name: _text(source.column(name), name, source.where) for name in table.attributes}
    attributes = _attributes({name: column.combine_chunks() for name, column in described.items()}, order, taken)
    made = pa.StructArray.from_arrays([classes.filter(taken), *sides, attributes], fields=list(BOX))
    counts = np.concatenate([[0], np.cumsum(kept)])[np.concatenate([[0], ends])]
    boxes = pa.ListArray.from_arrays(pa.array(counts, pa.int32()), made)
    first = order.take(pa.array(starts))
    origins = pa.ListArray.from_arrays(pa.array(counts, pa.int32()), source.origins().take(order).filter(taken))
    labels = pa.table(
        {
            "key": ordered.take(pa.array(starts)),
            "task": pa.array([table.task] * len(ends), pa.string()),
            "boxes": boxes,
            "origin": source.origins().take(first),
        }
    )
    return labels, origins


def _renamed(column: pa.ChunkedArray, names: Mapping[str, str]) -> pa.ChunkedArray:
    row = pc.index_in(column, value_set=pa.array(list(names), pa.string()))
    return pc.coalesce(pa.array(list(names.values()), pa.string()).take(row), column)


def _corners(source: SourceTable, table: BoxTable, findings: Findings) -> Sequence[pa.ChunkedArray]:
    """x, y, w and h of every row."""
    x, y, third, fourth = [numbers(source.column(name), name, source.where, findings) for name in table.box]
    if table.form == "size":
        return x, y, third, fourth
    if table.form == "center":
        return pc.subtract(x, pc.divide(third, 2)), pc.subtract(y, pc.divide(fourth, 2)), third, fourth
    return x, y, pc.subtract(third, x), pc.subtract(fourth, y)


def _attributes(columns: Mapping[str, pa.Array], order: pa.Array, taken: pa.Array) -> pa.Array:
    """For each box that is read, a map from attribute column to value; null where all its columns are null."""
    count = int(pc.sum(taken).as_py() or 0)
    if not columns or not count:
        return pa.nulls(count, BOX.field("attributes").type)
    texts = [column.take(order).filter(taken) for column in columns.values()]
    filled: npt.NDArray[np.bool_] = np.stack([np.asarray(pc.is_valid(text)) for text in texts], axis=1)
    cells = np.arange(len(texts) * count).reshape(len(texts), count).T.ravel()[filled.ravel()]
    items = pa.concat_arrays(texts).take(pa.array(cells))
    names = pa.array(list(columns)).take(pa.array(cells // count))
    offsets = np.concatenate([[0], np.cumsum(filled.sum(axis=1))])
    made = pa.MapArray.from_arrays(pa.array(offsets, pa.int32()), names, items)
    return pc.if_else(pa.array(filled.any(axis=1)), made, pa.scalar(None, made.type))


def _text(column: pa.ChunkedArray, name: str, where: Where) -> pa.ChunkedArray:
    """An attribute of boxes as text, flags in lower case."""
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, "true", "false")
    if not pa.types.is_string(column.type):
        return cast_column(column, pa.string(), name, where(0))
    lower = pc.utf8_lower(column)
    flags = pc.all(pc.is_in(lower, value_set=pa.array(["true", "false", None], pa.string()))).as_py()
    return lower if flags else column
