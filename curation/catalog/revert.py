"""Undoing a commit by what is appended; and the one thing that is taken away: what is known of a forgotten sample."""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from curation.catalog.event_writer import Writer
from curation.catalog.slices import Slice
from curation.catalog.snapshot import Snapshot
from curation.catalog.task_definitions import Definition
from curation.errors import NotFound

__all__ = ["ENDED", "forget_sample", "restored_slices", "restored_tasks", "undo_statements"]

SAMPLED: Final = (
    "sample", "attribute_event", "attribute_interval", "label_event", "label_interval", "request_event",
    "answer_event",
)  # fmt: skip
"""Tables that say something of a sample."""

ENDED: Final = {
    "label_event": (
        "sample_id, task_id, annotator_id",
        "0 AS state, NULL AS code, NULL AS number, NULL AS codes, NULL AS boxes, 1 AS confidence",
    ),
    "attribute_event": ("sample_id, name", "NULL AS text, NULL AS number, NULL AS flag, NULL AS time"),
    "request_event": ("request_id", "'withdrawn' AS state"),
}
"""Tables of events: what tells one statement from another, and how a statement that had none before it ends."""


def undo_statements(writer: Writer, commit: int) -> dict[str, int]:
    """Undo what a commit said of labels, attributes and requests; how many of each, and how many were `kept`."""
    brought = f"sample_id IN (SELECT sample_id FROM sample WHERE commit_id = {commit})"
    moved = {"kept": 0}
    for table, apart in (("label_event", ""), ("attribute_event", brought), ("request_event", "")):
        events, kept = _undoing(writer, table, commit, apart=apart)
        writer.append(table, events, aside="labelled_at" if table == "label_event" else "")
        moved[f"{table.removesuffix('_event')}s"] = len(events)
        moved["kept"] += kept
    return moved


def restored_tasks(writer: Writer, now: Snapshot, before: Snapshot, commit: int) -> list[Definition]:
    """Of each task that a commit defined last, its definition from before; one without has none to go back to."""
    earlier = before.definitions()
    return [
        earlier[name].restored(now.definition(name)) for name in _last(writer, "task_event", commit) if name in earlier
    ]


def restored_slices(writer: Writer, before: Snapshot, commit: int) -> list[Slice]:
    """Of each slice that a commit declared last, what it was before; with an empty predicate if it was not there."""
    earlier = before.slices()
    return [earlier.get(name, Slice(name=name, predicate="")) for name in _last(writer, "slice_event", commit)]


def forget_sample(writer: Writer, key: str, predictions: Mapping[str, str]) -> None:
    """Remove a sample at every commit; `predictions` are the sha256 of the files, by run, that were written anew.

    NotFound when there is no such sample.
    """
    found = writer.sql("SELECT sample_id FROM sample WHERE key = ?", [key])["sample_id"].to_pylist()
    if not found:
        raise NotFound(f"key {key!r}: no such sample; `amber slices show` lists keys")
    for table in SAMPLED:
        writer.connection.execute(f"DELETE FROM {table} WHERE sample_id = ?", found)
    for run, sha256 in predictions.items():
        writer.connection.execute("UPDATE run_event SET sha256 = ? WHERE run = ?", [sha256, run])
    writer.hash("forgotten", *map(str, found))
    writer.append_row("forgotten", *found)


def _last(writer: Writer, table: str, commit: int) -> list[str]:
    """Names of what a commit defined last."""
    query = f"SELECT name FROM {table} GROUP BY name HAVING max(commit_id) = ? ORDER BY name"
    return [str(name) for name in writer.sql(query, [commit])["name"].to_pylist()]


def _undoing(writer: Writer, table: str, commit: int, *, apart: str) -> tuple[pa.Table, int]:
    """Events to append to `table` so that what `commit` said there is undone, and how many statements are kept.

    Of each statement the event before stands again; one that a later commit replaced is left as that commit made it,
    and one that `apart` (a condition) admits is left alone.
    """
    cell, ended = ENDED[table]
    said = f"(FROM {table} WHERE commit_id = {commit} {f'AND NOT ({apart})' if apart else ''})"
    later = f"(FROM {table} WHERE commit_id > {commit})"
    once = f"QUALIFY row_number() OVER (PARTITION BY {cell} ORDER BY commit_id DESC) = 1"
    undone = f"SELECT * FROM {said} ANTI JOIN {later} USING ({cell}) {once}"
    events = writer.sql(
        f"""WITH undone AS MATERIALIZED ({undone}),
        before AS MATERIALIZED (
            SELECT * FROM {table} SEMI JOIN undone USING ({cell}) WHERE commit_id < {commit} {once})
        SELECT * EXCLUDE (commit_id) FROM before
        UNION ALL BY NAME
        SELECT * EXCLUDE (commit_id) REPLACE ({ended}) FROM undone ANTI JOIN before USING ({cell})
        ORDER BY {cell}"""
    )
    kept = f"SELECT count(*) FROM (SELECT DISTINCT {cell} FROM {said} SEMI JOIN {later} USING ({cell}))"
    return events, writer.number(kept)
