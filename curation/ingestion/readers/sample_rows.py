"""Rows of samples from several tables, joined into one row for each key."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from curation.ingestion.readers.cells import as_floats
from curation.ingestion.readers.findings import BadEntry, Findings

__all__ = ["join_samples"]


def join_samples(parts: Sequence[pa.Table], findings: Findings) -> pa.Table:
    """One row for each sample, with its values from all tables, in the order in which keys first appear.

    Values that differ are refused; where they are quarantined, the first one stays.
    """
    table = pa.concat_tables([_with_fractions(part, parts, findings) for part in parts], promote_options="permissive")
    if len(pc.unique(table["key"])) == len(table):
        return table
    names = [name for name in table.column_names if name != "key"]
    grouped = table.group_by("key", use_threads=False)
    counts = grouped.aggregate([(name, "count_distinct") for name in names])
    for name in names:
        for key in counts["key"].filter(pc.greater(counts[f"{name}_count_distinct"], 1)).to_pylist():
            values = pc.unique(table[name].filter(pc.equal(table["key"], key))).drop_null().to_pylist()
            rule = f"is {values[0]!r} in one row and {values[1]!r} in another"
            findings.refuse(BadEntry(repr(key), name, rule, "correct one"))
    first = grouped.aggregate([(name, "first") for name in names])
    return pa.table({"key": first["key"], **{name: first[f"{name}_first"] for name in names}})


def _with_fractions(part: pa.Table, parts: Sequence[pa.Table], findings: Findings) -> pa.Table:
    """A table whose whole numbers are fractions where another table has fractions. Those above 2^53 are refused."""
    for place, name in enumerate(part.column_names):
        floats = any(name in other.column_names and pa.types.is_floating(other[name].type) for other in parts)
        if floats and pa.types.is_integer(part[name].type):
            keys = part["key"]
            floated = as_floats(part[name], name, lambda row, keys=keys: repr(keys[row].as_py()), findings)  # type: ignore[misc]
            part = part.set_column(place, name, floated)
    return part
