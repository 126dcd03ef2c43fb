"""`oracle.parquet` of a workspace: the labels that a data set holds back, which only the oracle annotator reads."""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.catalog.event_tables import LABELS
from curation.files.atomic import whole

__all__ = ["fault", "forget_held_back", "hold_back"]


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
