"""Arrow schemas of tables that are added to the catalog: labels, their boxes, and label requests."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import BadInput

__all__ = ["BOX", "GIVEN_LABELS", "LABELS", "REQUESTS", "as_labels"]

BOX = pa.struct(
    [
        ("class", pa.string()),
        *((side, pa.float64()) for side in ("x", "y", "w", "h")),
        ("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
"""One box: class; left edge, top edge, width and height in pixels of the upright image; attributes (null: none)."""

LABELS = pa.schema(
    [
        ("key", pa.string()),
        ("task", pa.string()),
        ("state", pa.string()),
        ("text", pa.string()),
        ("number", pa.float64()),
        ("names", pa.list_(pa.string())),
        ("looked", pa.list_(pa.string())),
        ("boxes", pa.list_(BOX)),
        ("annotator", pa.string()),
        ("confidence", pa.float32()),
        ("labelled_at", pa.timestamp("us")),
        ("origin", pa.string()),
    ]
)
"""Columns of labels. `state` is "known", "unsure", "inapplicable" (the task does not apply to
the sample) or "retracted". The value is in one of four columns, the other three
are null: a class name (or "true", "false") in `text`, a regression target in `number`, the classes of a multilabel in
`names`, boxes in `boxes`; an empty list means that an annotator looked and found none. `looked` goes with `names`: the
classes that the annotator looked for, null for all of them; a class that is there was looked for, and the others of the
task stay unknown. `confidence` is null or in
(0, 1]. `labelled_at` is in UTC; null means the time of the commit. `origin` is where the label was read, such as
"labels.csv line 12", or null: errors name it, the catalog does not keep it."""

INSTRUCTIONS = pa.field("instructions", pa.int32())
GIVEN_LABELS = LABELS.append(INSTRUCTIONS)
"""`LABELS`, and the version of the instructions under which each was given; null: not known."""

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
"""Columns of label requests, as `PendingCommit.add_requests` takes them."""


def as_labels(table: pa.Table) -> pa.Table:
    """`table` with all columns of `LABELS`, null where it lacks one; BadInput when a column has the wrong type, or
    a box states one attribute twice.

    A table that names its samples by `sample_id` (int64) keeps that column and needs no `key`; one that says under
    which `instructions` labels were given keeps that column too.
    """
    more = [field for field in (pa.field("sample_id", pa.int64()), INSTRUCTIONS) if field.name in table.column_names]
    schema = pa.schema([*LABELS, *more])
    found = pa.table([_column(table, field) for field in schema], schema=schema)
    _refuse_repeated(found)
    return found


def _refuse_repeated(labels: pa.Table) -> None:
    """BadInput for the first attribute that a box states twice: a box has one value of each."""
    maps = pc.struct_field(pc.list_flatten(labels["boxes"].combine_chunks()), "attributes").drop_null()
    if not len(maps):
        return
    ends = maps.offsets.to_numpy()
    names = maps.keys.slice(ends[0], ends[-1] - ends[0]).dictionary_encode()
    box = np.repeat(np.arange(len(maps)), np.diff(ends))
    cells = np.sort(box * (len(names.dictionary) + 1) + names.indices.to_numpy())
    again = cells[1:][np.diff(cells) == 0]
    if len(again):
        value = names.dictionary[int(again[0]) % (len(names.dictionary) + 1)].as_py()
        raise BadInput(f"attribute {value!r} of a box: is stated twice; give each box one value")


def _column(table: pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    try:
        return table[field.name].cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError) as error:
        found = table.schema.field(field.name).type
        raise BadInput(f"column {field.name}: must be {field.type}, got {found} ({error}); convert it") from None
