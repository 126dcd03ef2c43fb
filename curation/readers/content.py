"""What every reader hands over: three Arrow tables."""

from dataclasses import dataclass

import pyarrow as pa

__all__ = ["BOX", "LABELS", "Content"]

BOX = pa.struct([("class", pa.string()), *((side, pa.float64()) for side in ("x", "y", "w", "h"))])
"""One box: its class, the left and top edge, width and height, in pixels of the upright image."""

LABELS = pa.schema(
    [
        ("key", pa.string()),
        ("task", pa.string()),
        ("state", pa.string()),
        ("text", pa.string()),
        ("number", pa.float64()),
        ("boxes", pa.list_(BOX)),
        ("annotator", pa.string()),
    ]
)
"""Columns of `labels` and `held_back`. `state` is "known" or "unsure"; a class name (or "true", "false") lies in
`text`, a regression target in `number`, boxes in `boxes`; the other two are null."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a source holds, read but not yet checked.

    `samples` has the columns `key` and `location` (an absolute path); every further column is an attribute.
    `labels` goes into the ledger, `held_back` only into the oracle's file; both follow `LABELS`.
    """

    samples: pa.Table
    labels: pa.Table
    held_back: pa.Table
