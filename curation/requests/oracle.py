"""The oracle annotator: it answers label requests with what a data set held back.

The held-back labels lie in `oracle.parquet` of the workspace, which nothing but this module reads.
"""

import pyarrow as pa
import pyarrow.parquet as pq

from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import LABELS
from curation.errors import BadInput

__all__ = ["answer"]


def answer(catalog: Catalog, *, batch: str, message: str = "the oracle answers") -> int:
    """Answer every open request whose label is held back, in one commit; returns how many labels that gave
    (0 when the batch was there).

    A request that the oracle knows nothing of stays open. The same batch again is a no-op.
    """
    path = catalog.home / "oracle.parquet"
    if not path.exists():
        raise BadInput(f"{catalog.home}: no data set of this workspace held labels back; there is no oracle to ask")
    with catalog.commit(author="oracle", message=message, batch=batch) as change:
        if change.repeated:
            return 0
        asked = change.now.requests("open").select(["request_id", "key", "task"])
        held = pq.read_table(path).cast(LABELS)
        places = held.select(["key", "task"]).append_column("place", pa.array(range(len(held)), pa.int64()))
        found = places.join(asked, ["key", "task"], join_type="inner").sort_by("request_id")
        known = held.take(found["place"])
        annotators = pa.array(["oracle"] * len(known), pa.string())
        known = known.set_column(LABELS.get_field_index("annotator"), "annotator", annotators)
        change.add_labels(known, source="oracle")
        change.close_requests(found["request_id"].to_pylist(), state="answered")
        return len(known)
