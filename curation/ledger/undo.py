"""What to append so that a commit is undone: of everything that it said, what stood before."""

from typing import Final

import duckdb
import pyarrow as pa

__all__ = ["ENDED", "undoing"]

ENDED: Final = {
    "label_event": (
        "sample_id, task_id, annotator_id",
        "0 AS state, NULL AS code, NULL AS number, NULL AS codes, NULL AS boxes, 1 AS confidence",
    ),
    "attribute_event": ("sample_id, name", "NULL AS text, NULL AS number, NULL AS flag, NULL AS time"),
    "request_event": ("request_id", "'withdrawn' AS state"),
}
"""Tables of events: what tells one statement from another, and how a statement that had none before it ends."""


def undoing(connection: duckdb.DuckDBPyConnection, table: str, commit: int, *, aside: str = "") -> tuple[pa.Table, int]:
    """Events to append to `table` so that what `commit` said there is undone, and how many statements are kept.

    Of each statement the event before stands again; one that a later commit replaced is left as that commit made it,
    and one that `aside` (a condition) admits is left alone.
    """
    cell, ended = ENDED[table]
    said = f"(FROM {table} WHERE commit_id = {commit} {f'AND NOT ({aside})' if aside else ''})"
    later = f"(FROM {table} WHERE commit_id > {commit})"
    once = f"QUALIFY row_number() OVER (PARTITION BY {cell} ORDER BY commit_id DESC) = 1"
    undone = f"SELECT * FROM {said} ANTI JOIN {later} USING ({cell}) {once}"
    events = connection.execute(
        f"""WITH undone AS MATERIALIZED ({undone}),
        before AS MATERIALIZED (
            SELECT * FROM {table} SEMI JOIN undone USING ({cell}) WHERE commit_id < {commit} {once})
        SELECT * EXCLUDE (commit_id) FROM before
        UNION ALL BY NAME
        SELECT * EXCLUDE (commit_id) REPLACE ({ended}) FROM undone ANTI JOIN before USING ({cell})
        ORDER BY {cell}"""
    ).to_arrow_table()
    kept = connection.execute(
        f"SELECT count(*) FROM (SELECT DISTINCT {cell} FROM {said} SEMI JOIN {later} USING ({cell}))"
    ).fetchone()
    assert kept is not None
    return events, int(kept[0])
