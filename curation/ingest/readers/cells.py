"""What the cells of a column say: attributes by what all of them hold, labels by the kind of their task."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.attributes import EXACT
from curation.catalog.event_tables import BOX
from curation.catalog.tasks import Kind
from curation.errors import BadInput
from curation.ingest.readers.json_files import parse_json
from curation.ingest.readers.times import Where, looks_like_time, to_utc
from curation.ingest.readers.values import box_of

__all__ = ["attribute", "numbers", "said"]

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_NO_NUMBER = r"^[+-]?([nN]a[nN]|[iI]nf(inity)?)$"
_CODE = r"^[+-]?0\d"
_INTEGER = r"^[+-]?\d+$"
_LONG = r"^[+-]?\d{16,}$"  # every whole number above 2^53 has at least 16 digits
_FLAGS = {"true": "true", "false": "false", "1": "true", "0": "false", "yes": "true", "no": "false"}
_VALUES = {"binary": "text", "categorical": "text", "regression": "number", "multilabel": "names", "detection": "boxes"}


def attribute(name: str, column: pa.ChunkedArray, type_: str | None, timezone: str, where: Where) -> pa.ChunkedArray:
    """A column as text, numbers, flags or times (UTC); `type_` says which where the text of a CSV does not.

    Text of digits alone is a number, unless one begins with 0 as codes do; true and false are flags.
    """
    if type_ == "text":
        return column if pa.types.is_string(column.type) else column.cast(pa.string())
    if type_ == "number" or pa.types.is_decimal(column.type):
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
    if pa.types.is_unsigned_integer(column.type):
        return _signed(column, name, where)
    return column


def _signed(column: pa.ChunkedArray, name: str, where: Where) -> pa.ChunkedArray:
    far = pc.index(pc.fill_null(pc.greater_equal(column.cast(pa.uint64()), pa.scalar(2**63, pa.uint64())), False), True)
    if (row := far.as_py()) >= 0:
        raise BadInput(f"{where(row)}: {name} = {column[row]} is above 2^63 - 1; read it as text")
    return column.cast(pa.int64())


def numbers(column: pa.ChunkedArray, name: str, where: Where) -> pa.ChunkedArray:
    """A column as float64; BadInput names the first cell that is no number."""
    if not pa.types.is_string(column.type):
        return _as_floats(column, name, where)
    text = pc.utf8_trim_whitespace(column)
    sound = pc.or_(pc.match_substring_regex(text, _NUMBER), pc.match_substring_regex(text, _NO_NUMBER))
    wrong = pc.index(sound, False).as_py()
    if wrong >= 0:
        raise BadInput(f"{where(wrong)}: {name} = {column[wrong].as_py()!r} is no number; write it as 12.5")
    for row in pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(text, _LONG), False)).to_pylist():
        _refuse_rounded(int(text[row].as_py()), name, where(row))
    return pc.replace_substring_regex(text, r"^\+", "").cast(pa.float64())


def _as_floats(column: pa.ChunkedArray, name: str, where: Where) -> pa.ChunkedArray:
    """Numbers of any Arrow type as float64; BadInput when that would round a whole number."""
    whole = pa.types.is_integer(column.type) or pa.types.is_decimal(column.type)
    far = whole and pc.greater(pc.abs(column.cast(pa.float64(), safe=False)), float(EXACT))
    for row in pc.indices_nonzero(pc.fill_null(far, False)).to_pylist() if whole else ():
        _refuse_rounded(int(column[row].as_py()), name, where(row))
    return column.cast(pa.float64(), safe=False)


def _refuse_rounded(value: int, name: str, at: str) -> None:
    if int(float(value)) != value:
        raise BadInput(
            f"{at}: {name} = {value} would be rounded as a number; leave fractions out of the column, or "
            "read it as text"
        )


def _whole(column: pa.ChunkedArray, name: str, where: Where) -> pa.ChunkedArray | None:
    """Digits alone as int64 if float64 would round one, else None; BadInput for a number that int64 cannot hold."""
    if not pc.all(pc.match_substring_regex(column, _INTEGER), min_count=0).as_py():
        return None
    rows = pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(column, _LONG), False)).to_pylist()
    values = {row: int(column[row].as_py()) for row in rows}
    for row, value in values.items():
        if not -(2**63) <= value < 2**63:
            raise BadInput(f"{where(row)}: {name} = {value} is above 2^63 - 1 (or below -2^63); read it as text")
    if all(int(float(value)) == value for value in values.values()):
        return None
    return pc.replace_substring_regex(column, r"^\+", "").cast(pa.int64())


def said(kind: Kind, column: pa.ChunkedArray, name: str, separator: str, where: Where) -> dict[str, pa.ChunkedArray]:
    """What the cells say of a task of that kind: its column of `LABELS`.

    Classes of a multilabel are parted by `separator`, or a list of JSON, as boxes are; [] says that there are none.
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
    if not codes and (whole := _whole(text, name, where)) is not None:
        return whole
    form = pc.or_(pc.match_substring_regex(text, _NUMBER), pc.match_substring_regex(text, _NO_NUMBER))
    return numbers(text, name, where) if pc.all(form).as_py() and not codes else column


def _text(column: pa.ChunkedArray, name: str, where: Where) -> pa.ChunkedArray:
    if pa.types.is_string(column.type):
        return pc.utf8_trim_whitespace(column)
    if pa.types.is_nested(column.type):
        raise BadInput(f"{where(0)}: column {name!r} holds {column.type} and not one class; mend it")
    return column.cast(pa.string())


def _renamed(column: pa.ChunkedArray, names: Mapping[str, str]) -> pa.ChunkedArray:
    """The column, upper and lower case not told apart in what is renamed."""
    place = pc.index_in(pc.utf8_lower(column), value_set=pa.array(list(names)))
    return pc.coalesce(pa.array(list(names.values())).take(place), column)


def _names(column: pa.ChunkedArray, name: str, separator: str, where: Where) -> pa.ChunkedArray:
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return column.cast(pa.list_(pa.string()))
    if not pa.types.is_string(column.type):
        raise BadInput(f"{where(0)}: column {name!r} holds {column.type} and no list of classes; mend it")
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
    """The cells that are lists of JSON, by row."""
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
