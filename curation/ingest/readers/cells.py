"""Values of a column: attributes typed by all cells of the column, labels by the kind of their task."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.event_tables import BOX
from curation.catalog.tasks import Kind
from curation.errors import BadInput
from curation.ingest.readers.json_files import parse_json
from curation.ingest.readers.times import Where, looks_like_time, to_utc
from curation.ingest.readers.values import box_of

__all__ = ["attribute", "label_columns", "numbers"]

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_NO_NUMBER = r"^[+-]?([nN]a[nN]|[iI]nf(inity)?)$"
_CODE = r"^[+-]?0\d"
_FLAGS = {"true": "true", "false": "false", "1": "true", "0": "false", "yes": "true", "no": "false"}
_VALUES = {"binary": "text", "categorical": "text", "regression": "number", "multilabel": "names", "detection": "boxes"}


def attribute(name: str, column: pa.ChunkedArray, type_: str | None, timezone: str, where: Where) -> pa.ChunkedArray:
    """A column as text, numbers, flags or times (UTC); `type_` overrides the type that the text of a CSV suggests.

    A column of digits is a number, unless a cell begins with 0 as codes do; true and false are flags.
    """
    if type_ == "text":
        return column if pa.types.is_string(column.type) else column.cast(pa.string())
    if type_ == "number":
        return numbers(column, name, where)
    if type_ == "time" or pa.types.is_temporal(column.type) or name == "captured_at":
        return to_utc(column, timezone, where)
    if pa.types.is_string(column.type):
        return _typed(name, column, type_, timezone, where)
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        raise BadInput(
            f"{where(0)}: column {name!r} holds {column.type}, which is no attribute; name it in tasks or embeddings, "
            "or in leave_out"
        )
    return column


def numbers(column: pa.ChunkedArray, name: str, where: Where) -> pa.ChunkedArray:
    """A column as float64; BadInput names the first cell that is not a number."""
    if not pa.types.is_string(column.type):
        return column.cast(pa.float64())
    text = pc.utf8_trim_whitespace(column)
    sound = pc.or_(pc.match_substring_regex(text, _NUMBER), pc.match_substring_regex(text, _NO_NUMBER))
    wrong = pc.index(sound, False).as_py()
    if wrong >= 0:
        raise BadInput(f"{where(wrong)}: {name} = {column[wrong].as_py()!r} is no number; write it as 12.5")
    return pc.replace_substring_regex(text, r"^\+", "").cast(pa.float64())


def label_columns(
    kind: Kind, column: pa.ChunkedArray, name: str, separator: str, where: Where
) -> dict[str, pa.ChunkedArray]:
    """The column of `LABELS` that holds the cells' labels for a task of `kind`.

    Classes of a multilabel are separated by `separator` or written as a JSON list, as boxes are; [] means none.
    """
    match kind:
        case "regression":
            value = numbers(column, name, where)
        case "multilabel":
            value = _names(column, name, separator, where)
        case "detection":
            value = _boxes(column, name, where)
        case "binary":
            value = _renamed(_text(column, name, where), _FLAGS)
        case _:
            value = _text(column, name, where)
    return {_VALUES[kind]: value}


def _typed(name: str, column: pa.ChunkedArray, type_: str | None, timezone: str, where: Where) -> pa.ChunkedArray:
    text = pc.utf8_trim_whitespace(column)
    lower = pc.utf8_lower(text)
    flags = pc.is_in(lower, value_set=pa.array([*_FLAGS] if type_ == "flag" else ["true", "false", None], pa.string()))
    if type_ == "flag" or pc.all(flags).as_py():
        return pc.equal(_renamed(lower, _FLAGS), "true")
    if type_ is None and looks_like_time(text):
        return to_utc(text, timezone, where)
    codes = pc.any(pc.match_substring_regex(text, _CODE)).as_py()
    form = pc.or_(pc.match_substring_regex(text, _NUMBER), pc.match_substring_regex(text, _NO_NUMBER))
    return numbers(text, name, where) if pc.all(form).as_py() and not codes else column


def _text(column: pa.ChunkedArray, name: str, where: Where) -> pa.ChunkedArray:
    if pa.types.is_string(column.type):
        return pc.utf8_trim_whitespace(column)
    if pa.types.is_nested(column.type):
        raise BadInput(
            f"{where(0)}: column {name!r} holds {column.type} and not one class; write one class in each cell"
        )
    return column.cast(pa.string())


def _renamed(column: pa.ChunkedArray, names: Mapping[str, str]) -> pa.ChunkedArray:
    """The column with renamed values, compared without upper and lower case."""
    row = pc.index_in(pc.utf8_lower(column), value_set=pa.array(list(names)))
    return pc.coalesce(pa.array(list(names.values())).take(row), column)


def _names(column: pa.ChunkedArray, name: str, separator: str, where: Where) -> pa.ChunkedArray:
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return column.cast(pa.list_(pa.string()))
    if not pa.types.is_string(column.type):
        raise BadInput(
            f"{where(0)}: column {name!r} holds {column.type} and no list of classes; write names or a list of names"
        )
    lists = _json(column, where)
    split = pc.split_pattern(pc.utf8_trim_whitespace(column), separator)
    if lists:
        cells = split.to_pylist()
        for row, value in lists.items():
            cells[row] = [str(part) for part in value]
        return pa.chunked_array([pa.array(cells, pa.list_(pa.string()))])
    flat = pc.utf8_trim_whitespace(pc.list_flatten(split))
    lengths = pc.fill_null(pc.list_value_length(split), 0).to_numpy()
    offsets = pa.array([0, *lengths.cumsum().tolist()], pa.int32())
    made = pa.ListArray.from_arrays(offsets, flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat)
    return pa.chunked_array([pc.if_else(pc.is_valid(column).combine_chunks(), made, pa.scalar(None, made.type))])


def _json(column: pa.ChunkedArray, where: Where) -> dict[int, list[Any]]:
    """The cells that hold a JSON list, by row."""
    begun = pc.starts_with(pc.utf8_trim_whitespace(column), "[")
    rows = pc.indices_nonzero(pc.fill_null(begun, False)).to_pylist()
    return {row: parse_json(column[row].as_py(), where(row)) for row in rows}


def _boxes(column: pa.ChunkedArray, name: str, where: Where) -> pa.ChunkedArray:
    if pa.types.is_string(column.type):
        found = _json(column, where)
        other = next((row for row in range(len(column)) if column[row].is_valid and row not in found), None)
        if other is not None:
            raise BadInput(f"{where(other)}: {name} = {column[other].as_py()[:60]!r} is no list of boxes; write JSON")
        cells = [found.get(row) for row in range(len(column))]
    else:
        cells = column.to_pylist()
    made = [None if cell is None else [box_of(part, where(row)) for part in cell] for row, cell in enumerate(cells)]
    return pa.chunked_array([pa.array(made, pa.list_(BOX))])
