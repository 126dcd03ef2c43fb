"""Labels of several classes that say which classes were looked for: {"car": true, "bicycle": false}, the rest unknown.

In a CSV such a cell is an object of JSON or Python; in Parquet and Arrow it may be a map or a struct of flags too.
"""

import ast
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import BadInput
from curation.ingestion.readers.findings import BadEntry, Findings
from curation.ingestion.readers.json_files import parse_json

__all__ = ["class_states", "split_states"]

Where = Callable[[int], str]


def class_states(value: Mapping[Any, Any], task: str, origin: str) -> dict[str, list[str]]:
    """The columns `names` and `looked` of `LABELS`; a class that is null, or is not named, was not looked for.

    >>> class_states({"car": True, "bicycle": False, "bus": None}, "seen", "a.json")
    {'names': ['car'], 'looked': ['bicycle', 'car']}
    """
    stated = {str(name).strip(): state for name, state in value.items() if state is not None}
    if wrong := next((name for name, state in stated.items() if not isinstance(state, bool)), ""):
        raise BadEntry(
            origin, f"{task}: {wrong} = {stated[wrong]!r}", "is neither true nor false", "write one, or null"
        )
    if not stated:
        raise BadEntry(origin, f"{task} = {dict(value)!r}", "says nothing of any class", "leave the label out")
    return {"names": sorted(name for name, there in stated.items() if there), "looked": sorted(stated)}


def split_states(
    column: pa.ChunkedArray, task: str, where: Where, findings: Findings
) -> tuple[pa.ChunkedArray, dict[int, dict[str, list[str]]]]:
    """The cells that are objects, by row, as `class_states` gives them; and the column with these cells null."""
    if pa.types.is_map(column.type) or pa.types.is_struct(column.type):
        rows, rest = pc.indices_nonzero(pc.is_valid(column)).to_pylist(), pa.nulls(len(column), pa.string())
    elif pa.types.is_string(column.type):
        begun = pc.fill_null(pc.starts_with(pc.utf8_trim_whitespace(column), "{"), False)
        rows = pc.indices_nonzero(begun).to_pylist()
        rest = pc.if_else(begun, pa.scalar(None, pa.string()), column)
    else:
        return column, {}
    found = {}
    for row in rows:
        with findings.entry():
            cell = column[row].as_py()
            found[row] = class_states(_object(cell, where(row)), task, where(row))
    return rest if isinstance(rest, pa.ChunkedArray) else pa.chunked_array([rest]), found


def _object(cell: Any, origin: str) -> Mapping[Any, Any]:
    if isinstance(cell, Mapping):
        return cell
    if isinstance(cell, list):
        return dict(cell)
    try:
        value = parse_json(cell, origin)
    except BadInput as error:
        try:
            value = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise error from None
    if not isinstance(value, Mapping):
        raise BadEntry(origin, repr(cell[:60]), "is no object of classes", 'write {"class": true}')
    return value
