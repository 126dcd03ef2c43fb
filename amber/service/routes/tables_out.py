"""Tables that a route gives as JSON, Arrow or CSV."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import pyarrow as pa
import pyarrow.csv as pacsv
from fastapi import Query
from fastapi.responses import Response
from pydantic import BaseModel

from amber.service.routes.paging import LINK
from curation.ingestion.writers import without_formulas

__all__ = ["PAGED", "TABLES", "Format", "table_out"]

ARROW: Final = "application/vnd.apache.arrow.stream"

Format = Annotated[
    Literal["json", "arrow", "csv"],
    Query(description="arrow: an IPC stream; csv: text that a spreadsheet would run as a formula gets an apostrophe"),
]

TABLES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {ARROW: {"schema": {"type": "string", "format": "binary"}}, "text/csv": {"schema": {}}}}
}
"""The other forms of a table in the OpenAPI document."""

PAGED: Final[dict[int | str, dict[str, Any]]] = {200: {**LINK[200], **TABLES[200]}}
"""The same of a table that comes in pages."""


def table_out(rows: Sequence[BaseModel], format: Format, of: type[BaseModel], beside: Response | None = None) -> Any:
    """The answer of a route: `rows` of the model `of` themselves for JSON, else a response with them as a table, and
    with the headers of `beside`. In CSV lists are JSON."""
    if format == "json":
        return rows
    found = [row.model_dump() for row in rows]
    table = pa.table({name: pa.array([row[name] for row in found]) for name in of.model_fields})
    headers = dict(beside.headers) if beside else {}
    sink = pa.BufferOutputStream()
    if format == "csv":
        pacsv.write_csv(without_formulas(_flat(table)), sink)
        return Response(sink.getvalue().to_pybytes(), media_type="text/csv", headers=headers)
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return Response(sink.getvalue().to_pybytes(), media_type=ARROW, headers=headers)


def _flat(table: pa.Table) -> pa.Table:
    """The table with lists as JSON, and columns without any value as text."""
    for place, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            cells = [None if cell is None else json.dumps(cell, default=str) for cell in table[place].to_pylist()]
            table = table.set_column(place, field.name, pa.array(cells, pa.string()))
        elif pa.types.is_null(field.type):
            table = table.set_column(place, field.name, table[place].cast(pa.string()))
    return table
