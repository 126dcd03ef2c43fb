"""`oracle.parquet` of a workspace: labels that a data set holds back, for the oracle annotator only."""

from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.catalog.event_tables import LABELS
from curation.errors import Damaged
from curation.files.atomic import whole
from curation.files.digest import digest
from curation.files.read_back import read_parquet, read_with

__all__ = ["DIGEST", "FILE", "fault_in_held_back", "forget_held_back", "hold_back", "read_held_back"]

FILE: Final = "oracle.parquet"
DIGEST: Final = b"amber.digest"
LOOKED: Final = "looked"
AGAIN: Final = "remove it and ingest its data set again"


def hold_back(home: Path, labels: pa.Table) -> None:
    """Store `labels` for the oracle. They replace the stored labels of the same (key, task); all others stay.

    Call it inside a commit: its lock keeps two processes from writing at once. The file appears whole.
    """
    path = home / FILE
    labels = labels.select(LABELS.names).cast(LABELS)
    if path.exists():
        labels = pa.concat_tables([_without(read_held_back(home), labels), labels])
    _write(path, labels)


def read_held_back(home: Path) -> pa.Table:
    """The held-back labels of a workspace. Damaged when they are not those that were written: the file holds the digest
    of its content, which costs about 1 s for 5 million labels."""
    path = home / FILE
    held = read_parquet(path, AGAIN)
    written = (held.schema.metadata or {}).get(DIGEST)
    labels = read_with(lambda found: _today(held), path, AGAIN)
    if written is not None and written.decode(errors="replace") != _digest(labels):
        raise Damaged(f"{path}: differs from what was written (its digest is another); {AGAIN}")
    return labels


def forget_held_back(home: Path, key: str) -> None:
    """Remove every held-back label of one sample; the file appears whole."""
    path = home / FILE
    held = read_held_back(home) if path.exists() else None
    if held is not None and pc.index(held["key"], key).as_py() >= 0:
        _write(path, held.filter(pc.not_equal(held["key"], key)))


def fault_in_held_back(home: Path, keys: Collection[str]) -> str:
    """What is wrong with the file of held-back labels, or "". `keys` are the keys of all samples."""
    path = home / FILE
    if not path.exists():
        return ""
    try:
        held = set(read_held_back(home)["key"].to_pylist())
    except Damaged as error:
        return str(error)
    strange = sorted(held - set(keys))
    return f"{path} holds labels of {strange[0]!r}, which is not a sample" if strange else ""


def _write(path: Path, labels: pa.Table) -> None:
    labels = labels.combine_chunks()
    with whole(path) as part:
        pq.write_table(labels.replace_schema_metadata({DIGEST: _digest(labels)}), part)


def _today(held: pa.Table) -> pa.Table:
    """Stored labels with today's columns; those of before `looked` looked for all classes."""
    held = held.replace_schema_metadata(None)
    if LOOKED not in held.column_names:
        held = held.append_column(LABELS.field(LOOKED), pa.nulls(len(held), LABELS.field(LOOKED).type))
    return held.select(LABELS.names).cast(LABELS)


def _digest(labels: pa.Table) -> str:
    """The digest of labels; without the column `looked` where it is empty, as files of before it have theirs."""
    partial = labels[LOOKED].null_count < len(labels)
    return digest(labels if partial else labels.drop_columns([LOOKED]))


def _without(stored: pa.Table, replaced: pa.Table) -> pa.Table:
    """The rows of `stored` whose (key, task) is not in `replaced`, in their order."""
    cell = ["key", "task"]
    rows = stored.select(cell).append_column("row", pa.array(np.arange(len(stored))))  # Arrow joins no list columns
    return stored.take(rows.join(replaced.select(cell), cell, join_type="left anti").sort_by("row")["row"])
