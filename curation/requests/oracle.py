"""The oracle annotator: it answers label requests with what a data set held back.

The held-back labels lie in `oracle.parquet` of the workspace, which nothing but this module reads.
"""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.atomic import whole
from curation.ingest.readers.content import LABELS

__all__ = ["answer", "fault", "forget_held_back", "hold_back"]


def hold_back(home: Path, labels: pa.Table) -> None:
    """Keep `labels` for the oracle, in place of what it held of the same samples; the file appears whole.

    Call it inside a commit, whose lock keeps two from doing so at once.
    """
    path = home / "oracle.parquet"
    labels = labels.select(LABELS.names).cast(LABELS)
    if path.exists():
        kept = pq.read_table(path)
        kept = kept.filter(pc.invert(pc.is_in(kept["key"], value_set=labels["key"].combine_chunks())))
        labels = pa.concat_tables([kept, labels])
    with whole(path) as part:
        pq.write_table(labels, part)


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


def forget_held_back(home: Path, key: str) -> None:
    """Remove what is held back of one sample; the file appears whole."""
    path = home / "oracle.parquet"
    held = pq.read_table(path) if path.exists() else None
    if held is not None and pc.index(held["key"], key).as_py() >= 0:
        with whole(path) as part:
            pq.write_table(held.filter(pc.not_equal(held["key"], key)), part)


def fault(home: Path, keys: Collection[str]) -> str:
    """What is wrong with the file that holds labels back, `keys` being those of all samples; empty when nothing is."""
    path = home / "oracle.parquet"
    if not path.exists():
        return ""
    try:
        held = set(pq.read_table(path, columns=["key"])["key"].to_pylist())
    except (pa.ArrowException, OSError) as error:
        return f"{path} cannot be read ({str(error).splitlines()[0]}); ingest its data set again"
    strange = sorted(held - set(keys))
    return f"{path} holds labels of {strange[0]!r}, which is no sample" if strange else ""
