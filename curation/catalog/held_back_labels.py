"""`oracle.parquet` of a workspace: labels that a data set holds back, for the oracle annotator only."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.catalog.event_tables import LABELS
from curation.files.atomic import whole

__all__ = ["fault_in_held_back", "forget_held_back", "hold_back"]


def hold_back(home: Path, labels: pa.Table) -> None:
    """Store `labels` for the oracle. They replace the stored labels of the same (key, task); all others stay.

    Call it inside a commit: its lock keeps two processes from writing at once. The file appears whole.
    """
    path = home / "oracle.parquet"
    labels = labels.select(LABELS.names).cast(LABELS)
    if path.exists():
        labels = pa.concat_tables([_without(pq.read_table(path), labels), labels])
    with whole(path) as part:
        pq.write_table(labels, part)


def forget_held_back(home: Path, key: str) -> None:
    """Remove every held-back label of one sample; the file appears whole."""
    path = home / "oracle.parquet"
    held = pq.read_table(path) if path.exists() else None
    if held is not None and pc.index(held["key"], key).as_py() >= 0:
        with whole(path) as part:
            pq.write_table(held.filter(pc.not_equal(held["key"], key)), part)


def fault_in_held_back(home: Path, keys: Collection[str]) -> str:
    """What is wrong with the file of held-back labels, or "". `keys` are the keys of all samples."""
    path = home / "oracle.parquet"
    if not path.exists():
        return ""
    try:
        held = set(pq.read_table(path, columns=["key"])["key"].to_pylist())
    except (pa.ArrowException, OSError) as error:
        return f"{path} cannot be read ({str(error).splitlines()[0]}); ingest its data set again"
    strange = sorted(held - set(keys))
    return f"{path} holds labels of {strange[0]!r}, which is not a sample" if strange else ""


def _without(stored: pa.Table, replaced: pa.Table) -> pa.Table:
    """The rows of `stored` whose (key, task) is not in `replaced`, in their order."""
    cell = ["key", "task"]
    rows = stored.select(cell).append_column("row", pa.array(np.arange(len(stored))))  # Arrow joins no list columns
    return stored.take(rows.join(replaced.select(cell), cell, join_type="left anti").sort_by("row")["row"])
