"""Attributes of samples: how they are checked and added. Each has one type, which never changes."""

import re
from collections.abc import Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.event_writer import Writer, refuse
from curation.catalog.slice_columns import SQL_TYPES
from curation.errors import BadInput

__all__ = ["EXACT", "NAME", "add_attributes", "types_of"]

NAME: Final = r"[a-z][a-z0-9_]{0,62}"
"""Pattern of names of attributes and slices. They appear in SQL, where DuckDB ignores case: so lower case only."""

EXACT: Final = 2**53
"""The largest whole number up to which float64 holds every whole number."""

RESERVED: Final = {"group": "text", "split": "text", "source": "text", "captured_at": "time", "excluded": "flag"}
"""Types of the attributes that Amber itself reads; `key` is a column of the sample."""


def add_attributes(writer: Writer, attributes: pa.Table, known: Mapping[str, str]) -> None:
    """Append attributes: a column `key` and one column each. `known` holds the types of the existing attributes."""
    unknown = "SELECT key FROM incoming ANTI JOIN sample USING (key) ORDER BY key LIMIT 1"
    refuse(writer.sql(unknown, incoming=attributes), "key {0!r}: no such sample; ingest the image first")
    twice = "SELECT key FROM incoming GROUP BY key HAVING count(*) > 1 ORDER BY key LIMIT 1"
    refuse(writer.sql(twice, incoming=attributes), "key {0!r}: is in this batch twice; give each attribute one value")
    for name in attributes.column_names:
        if name != "key":
            _add(writer, name, attributes.select(["key", name]), known)


def types_of(attributes: pa.Table, known: Mapping[str, str]) -> dict[str, str]:
    """The types of all attributes once `attributes` are added to those that are `known`; BadInput as in adding them."""
    found = dict(known)
    for name in attributes.column_names:
        if name != "key":
            found[name] = _typed(name, attributes[name], found.get(name, RESERVED.get(name)))[0]
    return found


def _add(writer: Writer, name: str, column: pa.Table, known: Mapping[str, str]) -> None:
    type_, values = _typed(name, column[name], known.get(name, RESERVED.get(name)))
    column = column.set_column(1, name, values)
    if name not in known:
        writer.hash("attribute", name, type_)
        writer.append_row("attribute", name, type_)
    if name == "split":
        strange = "SELECT split, key FROM incoming WHERE split NOT IN ('train', 'validation', 'test')"
        refuse(writer.sql(strange, incoming=column), "split {0!r} of {1!r}: must be train, validation or test")
    rows = writer.sql(
        f'SELECT sample.sample_id, ? AS name, CAST(incoming."{name}" AS {SQL_TYPES[type_]}) AS "{type_}" '
        f'FROM incoming JOIN sample USING (key) WHERE incoming."{name}" IS NOT NULL ORDER BY sample.sample_id',
        [name],
        incoming=column,
    )
    before = (
        "SELECT name FROM incoming SEMI JOIN (FROM attribute_event WHERE commit_id = ?) USING (sample_id, name) LIMIT 1"
    )
    refuse(
        writer.sql(before, [writer.id], incoming=rows),
        "attribute {0}: was already set in this commit; give each sample one value",
    )
    writer.append("attribute_event", rows)


def _typed(name: str, values: pa.ChunkedArray, known: str | None) -> tuple[str, pa.ChunkedArray]:
    """The type of an attribute, `known` or from its values, and the values as that type holds them; else BadInput."""
    if not re.fullmatch(NAME, name):
        raise BadInput(f"attribute {name!r}: must be of a-z, 0-9 and _, with a letter first; rename it")
    if pa.types.is_integer(values.type):
        type_, values = _whole_numbers(name, values, known)
    else:
        type_ = _type(name, values.type)
    if known == "integer" and type_ == "number" and _is_whole(values):
        type_, values = known, values.cast(pa.int64())
    if known not in (None, type_):
        raise BadInput(f"attribute {name}: is a {known} so far, here a {type_}; convert it or rename it")
    return type_, values


def _whole_numbers(name: str, values: pa.ChunkedArray, known: str | None) -> tuple[str, pa.ChunkedArray]:
    """Integers as the exact type "integer" if it is `known` to be that, or if a float64 would round one; otherwise as
    "number", which shares its attribute with fractions. BadInput for a number that int64 cannot hold, or that an
    attribute of type number would round."""
    largest = pc.max(values).as_py() or 0
    if largest >= 2**63:
        raise BadInput(f"attribute {name}: {largest} is above 2^63 - 1; write it as text")
    values = values.cast(pa.int64())
    if known == "integer":
        return known, values
    far = pc.or_(pc.greater(values, EXACT), pc.less(values, -EXACT))
    rounded = pc.index(pc.fill_null(far, False), True).as_py()
    if rounded < 0:
        return "number", values
    if known == "number":
        raise BadInput(
            f"attribute {name}: is a number so far, which would round {values[rounded]}; give whole numbers above 2^53 "
            "another name"
        )
    return "integer", values


def _is_whole(values: pa.ChunkedArray) -> bool:
    """Whether all of these floats are whole and so small that none was rounded."""
    here = values.drop_null().cast(pa.float64())
    sound = pc.and_(pc.equal(pc.floor(here), here), pc.less_equal(pc.abs(here), float(EXACT)))
    return bool(pc.all(sound, min_count=0).as_py())


def _type(name: str, type_: pa.DataType) -> str:
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "text"
    if pa.types.is_boolean(type_):
        return "flag"
    if pa.types.is_floating(type_):
        return "number"
    if pa.types.is_timestamp(type_):
        return "time"
    raise BadInput(f"attribute {name}: must be a string, boolean, number or time, got {type_}; convert it")
