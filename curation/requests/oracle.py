"""The oracle annotator: it answers label requests with the labels that a data set holds back.

They are stored in `oracle.parquet` of the workspace. Only this module reads their values.
"""

import numpy as np
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import LABELS
from curation.catalog.held_back_labels import read_held_back
from curation.errors import BadInput

__all__ = ["answer"]


def answer(catalog: Catalog, *, batch: str, message: str = "the oracle answers") -> int:
    """Answer every open request whose label is held back, in one commit; returns the number of labels added.

    A request without a held-back label stays open. Where several annotators' labels are held back for one
    (sample, task), the first is the answer. The same `batch` again is a no-op that returns 0. BadInput when no data
    set of this workspace holds labels back.
    """
    path = catalog.home / "oracle.parquet"
    if not path.exists():
        raise BadInput(f"{catalog.home}: no data set here holds labels back; set `held_back = true` and ingest it")
    with catalog.commit(author="oracle", message=message, batch=batch) as change:
        if change.repeated:
            return 0
        held = read_held_back(catalog.home)
        requests, rows = _answerable(change.now.requests("open"), held)
        labels = held.take(rows)
        annotators = pa.array(["oracle"] * len(labels), pa.string())
        labels = labels.set_column(LABELS.get_field_index("annotator"), "annotator", annotators)
        change.add_labels(labels, source="oracle")
        change.close_requests(requests.to_pylist(), state="answered")
        return len(labels)


def _answerable(requests: pa.Table, held: pa.Table) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Ids of the requests that a held-back label answers, ascending, and the row of `held` that answers each."""
    cell = ["key", "task"]
    rows = held.select(cell).append_column("row", pa.array(np.arange(len(held))))  # Arrow joins no list columns
    found = rows.join(requests.select(["request_id", *cell]), cell, join_type="inner")
    first = found.group_by("request_id").aggregate([("row", "min")]).sort_by("request_id")
    return first["request_id"], first["row_min"]
