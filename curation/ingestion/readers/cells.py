"""Values of a column: attributes typed by all cells of the column, labels by the kind of their task."""

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.attributes import EXACT
from curation.catalog.event_tables import BOX
from curation.catalog.tasks import Kind
from curation.errors import BadInput
from curation.ingestion.readers.arrow_types import cast_column
from curation.ingestion.readers.class_states import split_states
from curation.ingestion.readers.findings import BadEntry, Findings
from curation.ingestion.readers.json_files import parse_json
from curation.ingestion.readers.times import Where, looks_like_time, to_utc
from curation.ingestion.readers.values import FLAGS, box_of

__all__ = [
    "VALUE_COLUMNS",
    "as_floats",
    "as_text",
    "attribute",
    "label_columns",
    "looked_column",
    "numbers",
    "where_true",
]

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_NO_NUMBER = r"^[+-]?([nN]a[nN]|[iI]nf(inity)?)$"
_CODE = r"^[+-]?0\d"
_INTEGER = r"^[+-]?\d+$"
_LONG = r"^[+-]?\d{16,}(\.0*)?$"  # every whole number above 2^53 has at least 16 digits
VALUE_COLUMNS = {
    "binary": "text",
    "categorical": "text",
    "regression": "number",
    "multilabel": "names",
    "detection": "boxes",
}
"""The column of `LABELS` that holds a label, by the kind of its task."""


def attribute(
    name: str, column: pa.ChunkedArray, type_: str | None, timezone: str, where: Where, findings: Findings
) -> pa.ChunkedArray:
    """A column as text, numbers, flags or times (UTC); `type_` overrides the type that the text of a CSV suggests.

    A column of digits is a number, unless a cell begins with 0 as codes do; true and false are flags. A group is text.
    """
    if type_ == "text" or name == "group":
        return as_text(column, name, where)
    if type_ == "number" or pa.types.is_decimal(column.type):
        return numbers(column, name, where, findings)
    if type_ == "time" or pa.types.is_temporal(column.type) or name == "captured_at":
        return _times(column, timezone, where, findings)
    if pa.types.is_string(column.type):
        return _typed(name, column, type_, timezone, where, findings)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise BadInput(
            f"{where(0)}: column {name!r} holds {column.type}, which is no attribute; name it in tasks or embeddings, "
            "or in leave_out"
        )
    if pa.types.is_unsigned_integer(column.type):
        return _signed(column, name, where, findings)
    return column


def as_text(column: pa.ChunkedArray, name: str, where: Where) -> pa.ChunkedArray:
    """A column as text; whole numbers without a fraction (12, not 12.0)."""
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_floating(column.type):
        whole = pc.all(pc.equal(column, pc.round(column))).as_py() is not False
        column = cast_column(column, pa.int64(), name, where(0)) if whole and len(column) else column
    return cast_column(column, pa.string(), name, where(0))


def where_true(mask: pa.ChunkedArray, column: pa.ChunkedArray, name: str, where: Where) -> pa.ChunkedArray:
    """The column with the other cells null; BadInput for a union, of which Arrow can make no cell null."""
    if pa.types.is_union(column.type):
        raise BadInput(
            f"{where(0)}: column {name!r} holds {column.type}, which is no label; convert it or leave it out"
        )
    return pc.if_else(mask, column, pa.scalar(None, column.type))


def numbers(column: pa.ChunkedArray, name: str, where: Where, findings: Findings) -> pa.ChunkedArray:
    """A column as float64; cells that are not numbers are refused, or null where they are quarantined."""
    if not pa.types.is_string(column.type):
        return as_floats(column, name, where, findings)
    text = pc.utf8_trim_whitespace(column)
    sound = pc.or_(pc.match_substring_regex(text, _NUMBER), pc.match_substring_regex(text, _NO_NUMBER))
    text = refused_cells(text, sound, findings, lambda row: _no_number(column, name, row, where))
    text = _unrounded(text, pc.match_substring_regex(text, _LONG), name, where, findings)
    return pc.replace_substring_regex(text, r"^\+", "").cast(pa.float64())


def as_floats(column: pa.ChunkedArray, name: str, where: Where, findings: Findings) -> pa.ChunkedArray:
    """Numbers of any Arrow type as float64; whole numbers that it would round are refused, or null where they are
    quarantined."""
    whole = pa.types.is_integer(column.type) or pa.types.is_decimal(column.type)
    if not whole:
        return cast_column(column, pa.float64(), name, where(0) if len(column) else name)
    far = pc.greater(pc.abs(column.cast(pa.float64(), safe=False)), float(EXACT))
    return _unrounded(column, far, name, where, findings).cast(pa.float64(), safe=False)


def refused_cells(
    column: pa.ChunkedArray, sound: pa.ChunkedArray, findings: Findings, error: Callable[[int], BadInput]
) -> pa.ChunkedArray:
    """`column` with the cells null where `sound` is false; each of them is refused with its `error`."""
    wrong = pc.fill_null(pc.invert(sound), False)
    if not pc.any(wrong).as_py():
        return column
    for row in pc.indices_nonzero(wrong).to_pylist():
        findings.refuse(error(row))
    return pc.if_else(wrong, pa.scalar(None, column.type), column)


def _signed(column: pa.ChunkedArray, name: str, where: Where, findings: Findings) -> pa.ChunkedArray:
    sound = pc.less(column.cast(pa.uint64()), pa.scalar(2**63, pa.uint64()))
    return refused_cells(column, sound, findings, lambda row: _beyond(column, name, row, where)).cast(pa.int64())


def _beyond(column: pa.ChunkedArray, name: str, row: int, where: Where) -> BadEntry:
    return BadEntry(where(row), f"{name} = {column[row]}", "is above 2^63 - 1 (or below -2^63)", "read it as text")


def _unrounded(
    column: pa.ChunkedArray, far: pa.ChunkedArray, name: str, where: Where, findings: Findings
) -> pa.ChunkedArray:
    """The column without the whole numbers among those in `far` that float64 would round: these are refused."""
    values = _values(column, far)
    rows = [row for row, value in values.items() if int(float(value)) != value]
    rule, fix = "would be rounded as a number", "leave fractions out of the column, or read it as text"
    return _refused_rows(column, rows, findings, lambda row: BadEntry(where(row), f"{name} = {values[row]}", rule, fix))


def _refused_rows(
    column: pa.ChunkedArray, rows: Sequence[int], findings: Findings, error: Callable[[int], BadInput]
) -> pa.ChunkedArray:
    wrong = np.zeros(len(column), np.bool_)
    wrong[list(rows)] = True
    return refused_cells(column, pa.chunked_array([pa.array(~wrong)]), findings, error) if rows else column


def _values(column: pa.ChunkedArray, chosen: pa.ChunkedArray) -> dict[int, int]:
    """Whole numbers by row, of the rows where `chosen` is true."""
    return {row: _int(column[row].as_py()) for row in pc.indices_nonzero(pc.fill_null(chosen, False)).to_pylist()}


def _int(value: Any) -> int:
    """A number or digits as int; of more digits than a float64 holds, another number that is as far beyond it."""
    if isinstance(value, str):
        value = value.partition(".")[0]
    return int(value) if not isinstance(value, str) or len(value) < 300 else 10**300


def _within_64_bits(column: pa.ChunkedArray, name: str, where: Where, findings: Findings) -> pa.ChunkedArray:
    """A column of digits without the numbers that int64 cannot hold: these are refused. Any other column unchanged."""
    if not pc.all(pc.match_substring_regex(column, _INTEGER), min_count=0).as_py():
        return column
    values = _values(column, pc.match_substring_regex(column, _LONG))
    rows = [row for row, value in values.items() if not -(2**63) <= value < 2**63]
    return _refused_rows(column, rows, findings, lambda row: _beyond(column, name, row, where))


def _whole(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Digits alone as int64 if float64 would round one, else None."""
    if not pc.all(pc.match_substring_regex(column, _INTEGER), min_count=0).as_py():
        return None
    values = _values(column, pc.match_substring_regex(column, _LONG))
    if all(int(float(value)) == value for value in values.values()):
        return None
    return pc.replace_substring_regex(column, r"^\+", "").cast(pa.int64())


def label_columns(
    kind: Kind, column: pa.ChunkedArray, name: str, separator: str, where: Where, findings: Findings
) -> dict[str, pa.ChunkedArray]:
    """The column of `LABELS` that holds the cells' labels for a task of `kind`.

    Classes of a multilabel are separated by `separator`, or written as a list of JSON or Python, or as an object
    (`class_states`), which fills the column `looked` too; boxes are a JSON list. [] means none.
    """
    match kind:
        case "regression":
            value = numbers(column, name, where, findings)
        case "multilabel":
            column, stated = split_states(column, name, where, findings)
            value = _names(column, name, separator, where, findings)
            if stated:
                return _with_states(value, stated)
        case "detection":
            value = _boxes(column, name, where, findings)
        case "binary":
            value = _renamed(_text(column, name, where), FLAGS)
        case _:
            value = _text(column, name, where)
    return {VALUE_COLUMNS[kind]: value}


def looked_column(
    column: pa.ChunkedArray, separator: str, where: Where, findings: Findings
) -> dict[str, pa.ChunkedArray]:
    """The column `looked` of `LABELS` from lists of the classes that were looked for; an empty cell means all."""
    return {"looked": _names(column, "looked", separator, where, findings)} if column.null_count < len(column) else {}


def _with_states(names: pa.ChunkedArray, stated: Mapping[int, dict[str, list[str]]]) -> dict[str, pa.ChunkedArray]:
    """The columns `names` and `looked` with the rows of `class_states`."""
    cells: list[list[str] | None] = names.to_pylist()
    looked: list[list[str] | None] = [None] * len(names)
    for row, part in stated.items():
        cells[row], looked[row] = part["names"], part["looked"]
    type_ = pa.list_(pa.string())
    return {"names": pa.chunked_array([pa.array(cells, type_)]), "looked": pa.chunked_array([pa.array(looked, type_)])}


def _no_number(column: pa.ChunkedArray, name: str, row: int, where: Where) -> BadEntry:
    return BadEntry(where(row), f"{name} = {column[row].as_py()!r}", "is no number", "write it as 12.5")


def _same(origin: str, row: int) -> str:
    return origin


def _times(column: pa.ChunkedArray, timezone: str, where: Where, findings: Findings) -> pa.ChunkedArray:
    """A column as times; where cells are quarantined, those that are no times are null."""
    try:
        return to_utc(column, timezone, where)
    except BadInput:
        if not findings.quarantine or not pa.types.is_string(column.type):
            raise
    kept = []
    for row, cell in enumerate(column.to_pylist()):
        kept.append(cell)
        try:
            to_utc(pa.chunked_array([pa.array([cell], pa.string())]), timezone, partial(_same, where(row)))
        except BadInput as error:
            findings.refuse(error)
            kept[-1] = None
    return to_utc(pa.chunked_array([pa.array(kept, pa.string())]), timezone, where)


def _typed(
    name: str, column: pa.ChunkedArray, type_: str | None, timezone: str, where: Where, findings: Findings
) -> pa.ChunkedArray:
    text = pc.utf8_trim_whitespace(column)
    lower = pc.utf8_lower(text)
    flags = pc.is_in(lower, value_set=pa.array([*FLAGS] if type_ == "flag" else ["true", "false", None], pa.string()))
    if type_ == "flag" or pc.all(flags).as_py():
        return pc.equal(_renamed(lower, FLAGS), "true")
    if type_ is None and looks_like_time(text):
        return to_utc(text, timezone, where)
    codes = pc.any(pc.match_substring_regex(text, _CODE)).as_py()
    if not codes:
        text = _within_64_bits(text, name, where, findings)
        if (whole := _whole(text)) is not None:
            return whole
    form = pc.or_(pc.match_substring_regex(text, _NUMBER), pc.match_substring_regex(text, _NO_NUMBER))
    return numbers(text, name, where, findings) if pc.all(form).as_py() and not codes else column


def _text(column: pa.ChunkedArray, name: str, where: Where) -> pa.ChunkedArray:
    if pa.types.is_string(column.type):
        return pc.utf8_trim_whitespace(column)
    if pa.types.is_nested(column.type):
        raise BadInput(
            f"{where(0)}: column {name!r} holds {column.type} and not one class; write one class in each cell"
        )
    return cast_column(column, pa.string(), name, where(0))


def _renamed(column: pa.ChunkedArray, names: Mapping[str, str]) -> pa.ChunkedArray:
    """The column with renamed values, compared without upper and lower case."""
    row = pc.index_in(pc.utf8_lower(column), value_set=pa.array(list(names)))
    return pc.coalesce(pa.array(list(names.values())).take(row), column)


def _names(column: pa.ChunkedArray, name: str, separator: str, where: Where, findings: Findings) -> pa.ChunkedArray:
    if pa.types.is_list(column.type):
        return cast_column(column, pa.list_(pa.string()), name, where(0))
    if not pa.types.is_string(column.type):
        raise BadInput(
            f"{where(0)}: column {name!r} holds {column.type} and no list of classes; write names or a list of names"
        )
    column, lists = _lists(column, where, findings)
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


def _lists(column: pa.ChunkedArray, where: Where, findings: Findings) -> tuple[pa.ChunkedArray, dict[int, list[Any]]]:
    """The cells that hold a list of JSON or Python, by row, and the column with the cells null that hold neither."""
    begun = pc.starts_with(pc.utf8_trim_whitespace(column), "[")
    found, broken = {}, []
    for row in pc.indices_nonzero(pc.fill_null(begun, False)).to_pylist():
        try:
            found[row] = _list(column[row].as_py(), where(row))
        except BadInput as error:
            findings.refuse(error)
            broken.append(row)
    if broken:
        cells = column.to_pylist()
        for row in broken:
            cells[row] = None
        column = pa.chunked_array([pa.array(cells, pa.string())])
    return column, found


def _list(text: str, origin: str) -> list[Any]:
    """A list of JSON, or of Python, as pandas writes it: ['red', 'green']."""
    try:
        value = parse_json(text, origin)
    except BadInput as error:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise error from None
    if not isinstance(value, list):
        raise BadEntry(origin, repr(text[:60]), "is no list", "write a list of JSON")
    return value


def _boxes(column: pa.ChunkedArray, name: str, where: Where, findings: Findings) -> pa.ChunkedArray:
    if pa.types.is_string(column.type):
        column, found = _lists(column, where, findings)
        listed = pa.chunked_array([pa.array([row in found for row in range(len(column))], pa.bool_())])
        sound = pc.or_(pc.is_null(column), listed)
        column = refused_cells(column, sound, findings, lambda row: _no_boxes(column, name, row, where))
        cells = [found.get(row) for row in range(len(column))]
    elif pa.types.is_list(column.type):
        cells = column.to_pylist()
    else:
        raise BadInput(f"{where(0)}: column {name!r} holds {column.type} and no list of boxes; write lists of boxes")
    made: list[list[Any] | None] = []
    for row, cell in enumerate(cells):
        made.append(None)
        with findings.entry():
            made[row] = None if cell is None else [box_of(part, where(row)) for part in cell]
    return pa.chunked_array([pa.array(made, pa.list_(BOX))])


def _no_boxes(column: pa.ChunkedArray, name: str, row: int, where: Where) -> BadEntry:
    return BadEntry(where(row), f"{name} = {column[row].as_py()[:60]!r}", "is no list of boxes", "write JSON")
