"""Arrow schemas of what is added to the catalog: labels, their boxes, and label requests."""

import pyarrow as pa

from curation.errors import BadInput

__all__ = ["BOX", "LABELS", "REQUESTS", "as_labels"]

BOX = pa.struct(
    [
        ("class", pa.string()),
        *((side, pa.float64()) for side in ("x", "y", "w", "h")),
        ("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
"""One box: its class, the left and top edge, width and height, in pixels of the upright image, and what else is said
of it (null: nothing)."""

LABELS = pa.schema(
    [
        ("key", pa.string()),
        ("task", pa.string()),
        ("state", pa.string()),
        ("text", pa.string()),
        ("number", pa.float64()),
        ("names", pa.list_(pa.string())),
        ("boxes", pa.list_(BOX)),
        ("annotator", pa.string()),
        ("confidence", pa.float32()),
        ("labelled_at", pa.timestamp("us")),
        ("origin", pa.string()),
    ]
)
"""Columns of `labels` and `held_back`. `state` is "known", "unsure" or "retracted". A class name (or "true", "false")
lies in `text`, a regression target in `number`, the classes of a multilabel in `names`, boxes in `boxes`: an empty
list says that somebody looked and there is none. The other three are null. `confidence` is null or in (0, 1],
`labelled_at` is in UTC, or null for the time of the commit. `origin` says where the label was read, such as
"labels.csv line 12", or is null: errors name it, the ledger does not keep it."""

REQUESTS = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("task_id", pa.int32()),
        ("arm", pa.string()),
        ("slice", pa.string()),
        ("reason", pa.string()),
        ("run", pa.string()),
        ("priority", pa.int32()),
        ("propensity", pa.float64()),
        ("cost", pa.float64()),
    ]
)
"""Columns of label requests on their way into the catalog; `PendingCommit.add_requests` opens them."""


def as_labels(table: pa.Table) -> pa.Table:
    """`table` with the columns of `LABELS`, those that it lacks null; BadInput when a column is of another type.

    A table that names its samples by `sample_id` (int64) keeps that column and needs no `key`.
    """
    by_id = "sample_id" in table.column_names
    schema = LABELS.append(pa.field("sample_id", pa.int64())) if by_id else LABELS
    return pa.table([_column(table, field) for field in schema], schema=schema)


def _column(table: pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    try:
        return table[field.name].cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError) as error:
        found = table.schema.field(field.name).type
        raise BadInput(f"column {field.name}: {found} is no {field.type} ({error}); convert it") from None
