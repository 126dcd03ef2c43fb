"""Times in files, converted to UTC."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import BadInput

__all__ = ["Where", "looks_like_time", "to_utc"]

_DATE = r"^\d{4}-\d{2}-\d{2}"
_CLOCK = r"[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?"
_OFFSET = r"(Z|z|[+-]\d{2}(:?\d{2})?)"

Where = Callable[[int], str]
"""The origin of a row, by its number."""


def to_utc(column: pa.ChunkedArray, timezone: str, where: Where) -> pa.ChunkedArray:
    """Times of a column of text (ISO 8601), dates or timestamps, as timestamp("us") in UTC; nulls stay.

    Times with an offset are exact; all others are local times of `timezone`. BadInput names the first value that is not
    a time or that the local clock showed twice or never, and a column that mixes times with and without an offset.
    """
    if pa.types.is_string(column.type):
        column = _parsed(pc.utf8_trim_whitespace(column), where)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if not pa.types.is_timestamp(column.type):
        raise BadInput(f"{where(0)}: {column.type} is not a time; write it as 2026-07-01T12:30:00+02:00")
    if column.type.tz is None:
        column = _assumed(column.cast(pa.timestamp("us"), safe=False), timezone, where)
    return column.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.timestamp("us"))


def looks_like_time(column: pa.ChunkedArray) -> bool:
    """Whether every cell of a text column holds a time."""
    form = f"{_DATE}({_CLOCK}{_OFFSET}?)?$"
    return len(column) > column.null_count and bool(pc.all(pc.match_substring_regex(column, form)).as_py())


def _parsed(column: pa.ChunkedArray, where: Where) -> pa.ChunkedArray:
    wrong = _first(pc.invert(pc.match_substring_regex(column, f"{_DATE}({_CLOCK}{_OFFSET}?)?$")))
    if wrong is not None:
        _no_time(column, wrong, where)
    fixed = pc.match_substring_regex(column, f"{_CLOCK}{_OFFSET}$")
    if pc.all(fixed).as_py() is False and pc.any(fixed).as_py():
        other = _first(pc.invert(fixed))
        assert other is not None
        raise BadInput(
            f"{where(other)}: {column[other].as_py()!r} has no offset, and other times of the column have one; "
            "write an offset at all times or at none"
        )
    text = pc.replace_substring_regex(column, r"(\.\d{6})\d+", r"\1")
    text = pc.replace_substring_regex(pc.replace_substring_regex(text, "z$", "Z"), "T", " ")
    type_ = pa.timestamp("us", "UTC" if pc.any(fixed).as_py() else None)
    try:
        return text.cast(type_)
    except pa.ArrowInvalid:
        for row in range(len(text)):
            try:
                text[row].cast(type_)
            except pa.ArrowInvalid:
                _no_time(column, row, where)
        raise


def _no_time(column: pa.ChunkedArray, row: int, where: Where) -> None:
    raise BadInput(
        f"{where(row)}: {column[row].as_py()!r} is not a time of ISO 8601; write it as 2026-07-01T12:30:00+02:00"
    )


def _assumed(column: pa.ChunkedArray, timezone: str, where: Where) -> pa.ChunkedArray:
    early = pc.assume_timezone(column, timezone, ambiguous="earliest", nonexistent="earliest")
    late = pc.assume_timezone(column, timezone, ambiguous="latest", nonexistent="latest")
    row = _first(pc.not_equal(early, late))
    if row is not None:
        raise BadInput(
            f"{where(row)}: {column[row].as_py()} was shown twice or never by the clocks of {timezone}, which "
            "changed then; write it with its offset"
        )
    return early


def _first(mask: pa.ChunkedArray) -> int | None:
    """The first true row."""
    row = pc.index(mask, True).as_py()
    return row if row >= 0 else None
