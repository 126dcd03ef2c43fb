"""The sha256 of a table's content, whatever its chunks, its Parquet file or the version of Arrow."""

import hashlib
import json
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Int32s

__all__ = ["digest"]


def digest(table: pa.Table, names: Sequence[str] = ()) -> str:
    """Hex sha256 over `names` and the columns of `table` in their order: what they say, not how they lie in memory."""
    result = hashlib.sha256(json.dumps([*names, table.num_rows, *table.column_names]).encode())
    for column in table.columns:
        for part in _content(column):
            result.update(part)
    return result.hexdigest()


def _content(column: pa.ChunkedArray) -> Iterator[bytes | memoryview]:
    """Where nulls lie, if there are any, and the rest without them; of nested columns lengths, then what they hold."""
    if column.null_count:
        yield np.asarray(column.is_valid()).tobytes()
        column = column.drop_null()
    type_ = column.type
    if pa.types.is_string(type_):
        yield from _strings(column)
    elif pa.types.is_list(type_) or pa.types.is_map(type_):
        yield from _numbers(pc.list_value_length(column.cast(_plain(type_))), "<i8")
        yield from _content(pc.list_flatten(column.cast(_plain(type_))))
    elif pa.types.is_struct(type_):
        for i in range(type_.num_fields):
            yield from _content(pc.struct_field(column, [i]))
    elif pa.types.is_timestamp(type_):
        yield from _numbers(column.cast(pa.timestamp("us")).cast(pa.int64()), "<i8")
    elif not pa.types.is_null(type_):
        yield from _numbers(column, "<f8" if pa.types.is_floating(type_) else "<i8")


def _plain(type_: pa.DataType) -> pa.DataType:
    """A map as the list of structs that it is."""
    if pa.types.is_map(type_):
        return pa.list_(pa.struct([("key", type_.key_type), ("value", type_.item_type)]))
    return type_


def _numbers(column: pa.ChunkedArray, dtype: str) -> Iterator[bytes]:
    yield from (chunk.to_numpy(zero_copy_only=False).astype(dtype).tobytes() for chunk in column.chunks)


def _strings(column: pa.ChunkedArray) -> Iterator[bytes | memoryview]:
    """First the lengths of all, then the text of all: no two columns read the same."""
    bounds = [_bounds(chunk) for chunk in column.chunks if len(chunk)]
    texts = [chunk.buffers()[2] for chunk in column.chunks if len(chunk)]
    yield from (np.diff(ends).astype("<i8").tobytes() for ends in bounds)
    yield from (memoryview(text or b"")[ends[0] : ends[-1]] for text, ends in zip(texts, bounds, strict=True))


def _bounds(chunk: pa.StringArray) -> Int32s:
    return np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
