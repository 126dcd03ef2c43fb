"""The sha256 of a table's content, whatever its chunks, its Parquet file or the version of Arrow."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["digest"]


def digest(table: pa.Table, names: Sequence[str] = ()) -> str:
    """Hex sha256 over `names` and the columns of `table` in their order: integers and strings, without nulls."""
    result = hashlib.sha256(json.dumps([*names, table.num_rows, *table.column_names]).encode())
    for column in table.columns:
        if column.null_count:
            raise ValueError("a column with nulls has no digest")
        for part in _strings(column) if pa.types.is_string(column.type) else _integers(column):
            result.update(part)
    return result.hexdigest()


def _integers(column: pa.ChunkedArray) -> list[bytes]:
    return [np.asarray(chunk).astype("<i8").tobytes() for chunk in column.chunks]


def _strings(column: pa.ChunkedArray) -> list[bytes | memoryview]:
    """First the lengths of all, then the text of all: no two columns read the same."""
    bounds = [_bounds(chunk) for chunk in column.chunks if len(chunk)]
    texts = [chunk.buffers()[2] for chunk in column.chunks if len(chunk)]
    lengths = [np.diff(ends).astype("<i8").tobytes() for ends in bounds]
    return lengths + [memoryview(text or b"")[ends[0] : ends[-1]] for text, ends in zip(texts, bounds, strict=True)]


def _bounds(chunk: pa.StringArray) -> npt.NDArray[np.int32]:
    return np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
