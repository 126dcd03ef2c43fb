"""Rows of samples from several tables, joined into one row for each key."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import BadInput
from curation.ingestion.readers.cells import as_floats

__all__ = ["join_samples"]


def join_samples(parts: Sequence[pa.Table]) -> pa.Table:
    """One row for each sample, with its values from all tables, in the order in which keys first appear."""
    _refuse_rounding(parts)
    table = pa.concat_tables(parts, promote_options="permissive")
    if len(pc.unique(table["key"])) == len(table):
        return table
    names = [name for name in table.column_names if name != "key"]
    grouped = table.group_by("key", use_threads=False)
    counts = grouped.aggregate([(name, "count_distinct") for name in names])
    for name in names:
        several = pc.index(pc.greater(counts[f"{name}_count_distinct"], 1), True).as_py()
        if several >= 0:
            key = counts["key"][several].as_py()
            values = pc.unique(table[name].filter(pc.equal(table["key"], key))).drop_null().to_pylist()
            raise BadInput(f"{key!r}: {name} is {values[0]!r} in one row and {values[1]!r} in another; correct one")
    first = grouped.aggregate([(name, "first") for name in names])
    return pa.table({"key": first["key"], **{name: first[f"{name}_first"] for name in names}})


def _refuse_rounding(parts: Sequence[pa.Table]) -> None:
    """Refuse a column whose whole numbers above 2^53 would be joined with the fractions of another table."""
    for part in parts:
        for name in part.column_names:
            floats = any(name in other.column_names and pa.types.is_floating(other[name].type) for other in parts)
            if floats and pa.types.is_integer(part[name].type):
                as_floats(part[name], name, lambda row, part=part: repr(part["key"][row].as_py()))  # type: ignore[misc]
