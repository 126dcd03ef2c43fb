"""Tables that a route gives as JSON, Arrow or CSV."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import pyarrow as pa
import pyarrow.csv as pacsv
from fastapi import Query
from fastapi.responses import Response
from pydantic import BaseModel

from curation.ingestion.writers import without_formulas

__all__ = ["TABLES", "Format", "table_out"]

ARROW: Final = "application/vnd.apache.arrow.stream"

Format = Annotated[
    Literal["json", "arrow", "csv"],
    Query(description="arrow: an IPC stream; csv: text that a spreadsheet would run as a formula gets an apostrophe"),
]

TABLES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {ARROW: {"schema": {"type": "string", "format": "binary"}}, "text/csv": {"schema": {}}}}
}
"""The other forms of a table in the OpenAPI document."""


def table_out(rows: Sequence[BaseModel], format: Format, of: type[BaseModel]) -> Any:
    """The answer of a route: `rows` of the model `of` themselves for JSON, else a response with them as a table."""
    if format == "json":
        return rows
    found = [row.model_dump() for row in rows]
    table = pa.table({name: pa.array([row[name] for row in found]) for name in of.model_fields})
    sink = pa.BufferOutputStream()
    if format == "csv":
        pacsv.write_csv(without_formulas(table), sink)
        return Response(sink.getvalue().to_pybytes(), media_type="text/csv")
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return Response(sink.getvalue().to_pybytes(), media_type=ARROW)
