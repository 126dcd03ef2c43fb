"""Attributes of samples: how they are checked and added. Each has one type, which never changes."""

import re
from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from curation.catalog.event_writer import Writer, refuse
from curation.catalog.slice_columns import SQL_TYPES
from curation.errors import BadInput

__all__ = ["NAME", "add_attributes"]

NAME: Final = r"[a-z][a-z0-9_]{0,62}"
"""Pattern of names of attributes and slices. They appear in SQL, where DuckDB ignores case: so lower case only."""

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


def _add(writer: Writer, name: str, column: pa.Table, known: Mapping[str, str]) -> None:
    type_ = _type(name, column.schema.field(name).type)
    _check(name, type_, known)
    if name not in known:
        writer.hash("attribute", name, type_)
        writer.append_row("attribute", name, type_)
    if name == "split":
        strange = "SELECT split, key FROM incoming WHERE split NOT IN ('train', 'validation', 'test')"
        refuse(writer.sql(strange, incoming=column), "split {0!r} of {1!r}: must be train, validation or test")
    rows = writer.sql(
        f'SELECT sample.sample_id, ? AS name, CAST(incoming."{name}" AS {SQL_TYPES[type_]}) AS {type_} '
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


def _check(name: str, type_: str, known: Mapping[str, str]) -> None:
    if not re.fullmatch(NAME, name):
        raise BadInput(f"attribute {name!r}: must be of a-z, 0-9 and _, with a letter first; rename it")
    if (found := known.get(name, RESERVED.get(name))) not in (None, type_):
        raise BadInput(f"attribute {name}: is a {found} so far, here a {type_}; convert it or rename it")


def _type(name: str, type_: pa.DataType) -> str:
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "text"
    if pa.types.is_boolean(type_):
        return "flag"
    if pa.types.is_floating(type_) or pa.types.is_integer(type_):
        return "number"
    if pa.types.is_timestamp(type_):
        return "time"
    raise BadInput(f"attribute {name}: must be a string, boolean, number or time, got {type_}; convert it")
