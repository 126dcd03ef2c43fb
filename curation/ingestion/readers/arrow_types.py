"""Arrow columns in the types that readers understand: each encoding of text, lists and numbers becomes one."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.attributes import EXACT
from curation.errors import BadInput

__all__ = ["cast_column", "plain_column"]


def plain_column(column: pa.ChunkedArray, name: str, file: str) -> pa.ChunkedArray:
    """`column` with plain types: decoded, text as string, bytes as binary, lists as list, decimals as int64 or float64.

    Types that no reader understands stay: what uses the column refuses them. BadInput if Arrow cannot convert a type.
    """
    type_ = column.type
    if isinstance(type_, pa.BaseExtensionType):
        parts = [chunk.storage for chunk in column.chunks]
        return plain_column(pa.chunked_array(parts, type_.storage_type), name, file)
    if pa.types.is_run_end_encoded(type_):
        return plain_column(pc.run_end_decode(column), name, file)
    if pa.types.is_dictionary(type_):
        return plain_column(cast_column(column, type_.value_type, name, file), name, file)
    if pa.types.is_list_view(type_) or pa.types.is_large_list_view(type_):
        lists = [_as_list(chunk) for chunk in column.chunks]
        return plain_column(pa.chunked_array(lists, pa.list_(type_.value_type)), name, file)
    target = _number_type(column) if pa.types.is_decimal(type_) else _plain_type(type_)
    return column if target == type_ else cast_column(column, target, name, file)


def cast_column(column: pa.ChunkedArray, type_: pa.DataType, name: str, where: str) -> pa.ChunkedArray:
    """`column` as `type_`; BadInput names the column if a value does not fit."""
    try:
        return column.cast(type_)
    except (pa.ArrowException, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            f"{where}: column {name!r} holds {column.type}, which is no {type_} ({reason}); convert it or leave it out"
        ) from None


def _plain_type(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return pa.string()
    if pa.types.is_large_binary(type_) or pa.types.is_binary_view(type_) or pa.types.is_fixed_size_binary(type_):
        return pa.binary()
    if pa.types.is_float16(type_):
        return pa.float64()
    if _is_list(type_):
        inner = type_.value_type
        return pa.list_(pa.float32() if pa.types.is_float16(inner) else _plain_type(inner))
    return type_


def _number_type(decimals: pa.ChunkedArray) -> pa.DataType:
    """int64 for decimals that are all whole and fit into it; float64 for others, unless it could round a whole one."""
    try:
        decimals.cast(pa.int64())
    except pa.ArrowInvalid:  # a fraction, or beyond int64
        far = pc.greater(pc.abs(decimals.cast(pa.float64(), safe=False)), float(EXACT))
        return decimals.type if pc.any(far).as_py() else pa.float64()
    return pa.int64()


def _is_list(type_: pa.DataType) -> bool:
    tests = ("is_list", "is_large_list", "is_fixed_size_list")
    return any(getattr(pa.types, test)(type_) for test in tests)


def _as_list(views: pa.Array) -> pa.ListArray:
    """A list view as a list; Arrow's own cast makes invalid arrays of some (pyarrow 26)."""
    lengths = pc.fill_null(pc.list_value_length(views), 0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, views.flatten(), mask=pc.is_null(views))
