"""`oracle.parquet` of a workspace: labels that a data set holds back, for the oracle annotator only."""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.catalog.event_tables import LABELS
from curation.files.atomic import whole

__all__ = ["fault_in_held_back", "forget_held_back", "hold_back"]


def hold_back(home: Path, labels: pa.Table) -> None:
    """Store `labels` for the oracle; they replace those of the same samples. The file is written whole.

    Call it inside a commit, whose lock keeps two processes from writing at once.
    """
    path = home / "oracle.parquet"
    labels = labels.select(LABELS.names).cast(LABELS)
    if path.exists():
        kept = pq.read_table(path)
        kept = kept.filter(pc.invert(pc.is_in(kept["key"], value_set=labels["key"].combine_chunks())))
        labels = pa.concat_tables([kept, labels])
    with whole(path) as part:
        pq.write_table(labels, part)


def forget_held_back(home: Path, key: str) -> None:
    """Remove the held-back labels of one sample. The file is written whole."""
    path = home / "oracle.parquet"
    held = pq.read_table(path) if path.exists() else None
    if held is not None and pc.index(held["key"], key).as_py() >= 0:
        with whole(path) as part:
            pq.write_table(held.filter(pc.not_equal(held["key"], key)), part)


def fault_in_held_back(home: Path, keys: Collection[str]) -> str:
    """What is wrong with the file of held-back labels, or ""; `keys` holds the keys of all samples."""
    path = home / "oracle.parquet"
    if not path.exists():
        return ""
    try:
        held = set(pq.read_table(path, columns=["key"])["key"].to_pylist())
    except (pa.ArrowException, OSError) as error:
        return f"{path} cannot be read ({str(error).splitlines()[0]}); ingest its data set again"
    strange = sorted(held - set(keys))
    return f"{path} holds labels of {strange[0]!r}, which is not a sample" if strange else ""
