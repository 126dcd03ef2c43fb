"""Labels on their way in: names become ids and codes, and every rule that a label can break is checked."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.arrow_query import over
from curation.catalog.task_definitions import Definition

__all__ = ["COLUMNS", "coded", "complaints"]

COLUMNS: Final = [
    "sample_id", "task_id", "annotator_id", "state", "code", "number", "codes", "boxes", "confidence", "labelled_at",
]  # fmt: skip
"""Columns of `label_event`, less the commit."""

OUTSIDE: Final = """len(list_filter(boxes, lambda b: b.code IS NULL OR NOT coalesce(b.w > 0 AND b.h > 0
    AND b.x >= 0 AND b.y >= 0 AND b.x + b.w <= width AND b.y + b.h <= height, false))) > 0"""

RULES: Final = [
    ("sample_id IS NULL", "key {key!r}: no such sample; ingest the image first"),
    ("task_id IS NULL", "task {task!r}: the catalog has no such task; `amber tasks` lists them"),
    ("state IS NULL", "state {state!r} of {key!r}: must be known, unsure or retracted"),
    ("coalesce(annotator, '') = ''", "annotator {annotator!r}: every label has one; name who gave it"),
    (
        "NOT coalesce(confidence > 0 AND confidence <= 1, false)",
        "confidence {confidence!r} of {key!r}: must be above 0 and at most 1; correct it",
    ),
    (
        "state = 1 AND kind IN ('binary', 'categorical') AND code IS NULL",
        "{text!r} of {key!r}: task {task} has no such class; correct the label or add the class",
    ),
    (
        "state = 1 AND kind = 'regression' AND NOT coalesce(isfinite(number), false)",
        "number {number!r} of {key!r}: task {task} takes finite numbers; correct the label",
    ),
    (
        "state = 1 AND kind = 'multilabel' AND (codes IS NULL OR list_contains(codes, -1))",
        "classes {names!r} of {key!r}: task {task} takes a list of its classes; correct the label",
    ),
    (
        f"state = 1 AND kind = 'detection' AND (boxes IS NULL OR {OUTSIDE})",
        "boxes of {key!r}: task {task} takes boxes of its classes, inside the image; correct them",
    ),
]
"""What makes a label unfit by itself, in the order in which it is said."""

TWICE: Final = "label of {key!r} for {task}: stands twice in this batch; keep one"
BEFORE: Final = "label of {key!r} for {task}: given before in this commit; keep one"

MESSAGES: Final = [*(message for _, message in RULES), TWICE, BEFORE]

STATE: Final = "CASE incoming.state WHEN 'known' THEN 1 WHEN 'unsure' THEN 2 WHEN 'retracted' THEN 0 END"

SAMPLES: Final = """LEFT JOIN (
    SELECT DISTINCT sample_id, CAST(NULL AS INTEGER) AS width, CAST(NULL AS INTEGER) AS height
    FROM incoming ANTI JOIN forgotten USING (sample_id)
    WHERE sample_id BETWEEN 0 AND (SELECT max(sample_id) FROM sample)) AS sample USING (sample_id)"""
"""Which sample ids there are, known without a look at the samples: all up to the largest, less the forgotten ones."""

TASKS: Final = pa.schema(
    [
        ("task", pa.string()), ("task_id", pa.int32()), ("kind", pa.string()), ("classes", pa.list_(pa.string())),
        ("places", pa.list_(pa.int32())),
    ]
)  # fmt: skip


def coded(
    connection: duckdb.DuckDBPyConnection,
    labels: pa.Table,
    definitions: Collection[Definition],
    *,
    at: datetime,
    given: tuple[str, int] | None = None,
) -> pa.Table:
    """`labels` with ids and codes, and `broken`: the place in `MESSAGES` of the rule that each breaks first, or null.

    `labels` has the columns of `LABELS`, or `sample_id` in place of `key`, which spares the look-up of keys. `place` is
    the row's place in it; rows come by task, then sample, then place. Ids are null without such a sample or task.
    `given` names a source and the commit that has given labels of it already.
    """
    asked = set(pc.unique(labels["task"]).to_pylist())
    boxed = any(part.task.kind == "detection" and part.task.name in asked for part in definitions)
    rows = _sorted(
        over(
            connection, _query(labels, boxed=boxed), [at],
            incoming=labels.append_column("place", pa.array(np.arange(len(labels)))), definition=_tasks(definitions),
        )
    )  # fmt: skip
    rows = _marked(rows, _twice(connection, rows), TWICE)
    return _marked(rows, _before(connection, rows, *given), BEFORE) if given else rows


def complaints(labels: pa.Table, broken: pa.Table) -> Iterator[tuple[str, str]]:
    """The key of each broken row of `coded`, and what it is refused with: one line that begins with where it was read.

    `labels` is the table that was coded.
    """
    for row, rule in zip(labels.take(broken["place"]).to_pylist(), broken["broken"].to_pylist(), strict=True):
        row["key"] = str(row["sample_id"] if row.get("sample_id") is not None else row["key"])
        message = MESSAGES[rule].format(**row)
        yield row["key"], f"{row['origin']}: {message}" if row["origin"] else message


def _tasks(definitions: Collection[Definition]) -> pa.Table:
    rows = [
        {
            "task": part.task.name, "task_id": part.task_id, "kind": part.task.kind, "classes": part.task.classes,
            "places": part.places,
        } for part in definitions
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, TASKS)


def _query(labels: pa.Table, *, boxed: bool) -> str:
    """SQL of the coded labels; `boxed` when one may be of boxes, which are held against the size of the image."""
    by_id = "sample_id" in labels.column_names
    sample = SAMPLES if by_id and not boxed else f"LEFT JOIN sample USING ({'sample_id' if by_id else 'key'})"
    ranks = " ".join(f"WHEN {broken} THEN {rank}" for rank, (broken, _) in enumerate(RULES))
    return f"""
        SELECT place, sample_id, task_id, annotator, state, code, number, codes, boxes, confidence, labelled_at,
            CASE {ranks} END AS broken FROM (
        SELECT place, sample.sample_id, width, height, kind, task_id, annotator, CAST({STATE} AS UTINYINT) AS state,
            CASE WHEN incoming.state = 'known' AND kind IN ('binary', 'categorical')
                THEN places[list_position(classes, text)] END AS code,
            CASE WHEN incoming.state = 'known' AND kind = 'regression' THEN number END AS number,
            CASE WHEN incoming.state = 'known' AND kind = 'multilabel' THEN list_sort(list_distinct(
                list_transform(names, lambda n: coalesce(places[list_position(classes, n)], -1)))) END AS codes,
            CASE WHEN incoming.state = 'known' AND kind = 'detection' THEN list_transform(boxes, lambda b: {{
                'code': places[list_position(classes, b.class)],
                'x': b.x, 'y': b.y, 'w': b.w, 'h': b.h, 'attributes': b.attributes}}) END AS boxes,
            coalesce(confidence, CAST(1 AS REAL)) AS confidence, coalesce(labelled_at, ?) AS labelled_at
        FROM incoming {sample}
        LEFT JOIN definition ON definition.task = incoming.task)"""


def _twice(connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> pa.Table:
    """Places of labels that stand more than once in the batch: of one annotator, for one (task, sample)."""
    cell = ("task_id", "sample_id")
    follows = np.logical_and.reduce([np.diff(pc.fill_null(rows[name], -1).to_numpy()) == 0 for name in cell])
    shared = np.append(follows, False) | np.append(False, follows)
    if not shared.any():
        return rows.slice(0, 0)
    return over(
        connection,
        "SELECT place FROM incoming QUALIFY count(*) OVER (PARTITION BY sample_id, task_id, annotator) > 1",
        incoming=rows.select(["place", "sample_id", "task_id", "annotator"]).filter(pa.array(shared)),
    )


def _before(connection: duckdb.DuckDBPyConnection, rows: pa.Table, source: str, commit: int) -> pa.Table:
    """Places of labels that the same commit gave before."""
    return over(
        connection,
        "SELECT place FROM incoming JOIN annotator ON name = annotator AND annotator.source = ? "
        "SEMI JOIN (FROM label_event WHERE commit_id = ?) USING (sample_id, task_id, annotator_id)",
        [source, commit],
        incoming=rows.select(["place", "sample_id", "task_id", "annotator"]),
    )


def _marked(rows: pa.Table, places: pa.Table, message: str) -> pa.Table:
    """`rows` with a rank in `broken` for those at `places`, unless they break another rule."""
    if not len(places):
        return rows
    rank = pa.scalar(MESSAGES.index(message), rows["broken"].type)
    hit = pc.and_(pc.is_in(rows["place"], value_set=places["place"].combine_chunks()), pc.is_null(rows["broken"]))
    column = rows.schema.get_field_index("broken")
    return rows.set_column(column, "broken", pc.if_else(hit, rank, rows["broken"]))


def _sorted(rows: pa.Table) -> pa.Table:
    """By task, then sample, then place: so they compress best, and equal batches have equal digests."""
    keys = [pc.fill_null(rows[name], -1).to_numpy() for name in ("place", "sample_id", "task_id")]
    order = np.lexsort(keys)
    return rows if bool((order == np.arange(len(order))).all()) else rows.take(pa.array(order))
