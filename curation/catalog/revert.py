"""Reverting a commit, by appending events; and forgetting a sample, the only operation that deletes."""

import hashlib
from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from curation.catalog.event_writer import Writer
from curation.catalog.slices import Slice
from curation.catalog.snapshot import Snapshot
from curation.catalog.task_definitions import Definition
from curation.errors import NotFound

__all__ = ["ENDED", "forget_sample", "restored_slices", "restored_tasks", "revert_events"]

SAMPLED: Final = (
    "sample", "attribute_event", "attribute_interval", "label_event", "label_interval", "request_event",
    "answer_event",
)  # fmt: skip
"""Tables with rows about a sample."""

ENDED: Final = {
    "label_event": (
        "sample_id, task_id, annotator_id",
        "0 AS state, NULL AS code, NULL AS number, NULL AS codes, NULL AS looked, NULL AS boxes, 1 AS confidence",
    ),
    "attribute_event": (
        "sample_id, name",
        'NULL AS text, NULL AS number, NULL AS flag, NULL AS time, NULL AS "integer"',
    ),
    "request_event": ("request_id", "'withdrawn' AS state"),
    "instruction_event": ("task_id", "0 AS version, '' AS text"),
    "assignment_event": ("task_id, person", "false AS active"),
    "person_event": ("person", 'false AS "left"'),
}
"""Tables of events: the columns that identify what an event is about, and how to end it if no event came before."""


def revert_events(writer: Writer, commit: int) -> dict[str, int]:
    """Revert what a commit appended to the tables of `ENDED`: how many events of each, and how many were `kept`."""
    new_samples = f"sample_id IN (SELECT sample_id FROM sample WHERE commit_id = {commit})"
    moved = {"kept": 0}
    for table in ENDED:
        events, kept = _reverting(writer, table, commit, apart=new_samples if table == "attribute_event" else "")
        writer.append(table, events, aside="labelled_at" if table == "label_event" else "")
        moved[_plural(table)] = len(events)
        moved["kept"] += kept
    return moved


def restored_tasks(writer: Writer, now: Snapshot, before: Snapshot, commit: int) -> list[Definition]:
    """The previous definitions of the tasks that a commit defined last; a task that it declared has none."""
    earlier = before.definitions()
    return [
        earlier[name].restored(now.definition(name)) for name in _last(writer, "task_event", commit) if name in earlier
    ]


def restored_slices(writer: Writer, before: Snapshot, commit: int) -> list[Slice]:
    """The previous versions of the slices that a commit declared last; an empty predicate for a slice that is new."""
    earlier = before.slices()
    return [earlier.get(name, Slice(name=name, predicate="")) for name in _last(writer, "slice_event", commit)]


def forget_sample(writer: Writer, key: str, predictions: Mapping[str, str]) -> None:
    """Remove a sample at every commit. `predictions` maps each run to the sha256 of its rewritten predictions file.

    NotFound when there is no such sample.
    """
    rows = writer.sql("SELECT sample_id, sha256 FROM sample WHERE key = ?", [key]).to_pylist()
    if not rows:
        raise NotFound(f"key {key!r}: no such sample; `amber slices show` lists keys")
    found = [rows[0]["sample_id"]]
    for table in SAMPLED:
        writer.connection.execute(f"DELETE FROM {table} WHERE sample_id = ?", found)
    for run, sha256 in predictions.items():
        writer.connection.execute("UPDATE run_event SET sha256 = ? WHERE run = ?", [sha256, run])
    writer.hash("forgotten", *map(str, found))
    for text in (key, f"image {rows[0]['sha256']}"):
        writer.append_row("forgotten", *found, hashlib.sha256(text.encode()).hexdigest())


def _plural(table: str) -> str:
    """What the events of a table are about, in words."""
    name = table.removesuffix("_event")
    return "people" if name == "person" else f"{name}s"


def _last(writer: Writer, table: str, commit: int) -> list[str]:
    """Names whose newest definition is in this commit."""
    query = f"SELECT name FROM {table} GROUP BY name HAVING max(commit_id) = ? ORDER BY name"
    return [str(name) for name in writer.sql(query, [commit])["name"].to_pylist()]


def _reverting(writer: Writer, table: str, commit: int, *, apart: str) -> tuple[pa.Table, int]:
    """Events that revert those of `commit` when appended to `table`, and how many of its events are kept.

    Each event is replaced by the one before it. An event that a later commit replaced is kept, and events that satisfy
    the condition `apart` are left alone.
    """
    cell, ended = ENDED[table]
    mine = f"(FROM {table} WHERE commit_id = {commit} {f'AND NOT ({apart})' if apart else ''})"
    later = f"(FROM {table} WHERE commit_id > {commit})"
    once = f"QUALIFY row_number() OVER (PARTITION BY {cell} ORDER BY commit_id DESC) = 1"
    reverted = f"SELECT * FROM {mine} ANTI JOIN {later} USING ({cell}) {once}"
    events = writer.sql(
        f"""WITH reverted AS MATERIALIZED ({reverted}),
        before AS MATERIALIZED (
            SELECT * FROM {table} SEMI JOIN reverted USING ({cell}) WHERE commit_id < {commit} {once})
        SELECT * EXCLUDE (commit_id) FROM before
        UNION ALL BY NAME
        SELECT * EXCLUDE (commit_id) REPLACE ({ended}) FROM reverted ANTI JOIN before USING ({cell})
        ORDER BY {cell}"""
    )
    kept = f"SELECT count(*) FROM (SELECT DISTINCT {cell} FROM {mine} SEMI JOIN {later} USING ({cell}))"
    return events, writer.number(kept)
