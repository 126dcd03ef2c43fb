"""Validation of new labels: names become ids and codes, and every rule is checked."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.arrow_query import query_arrow
from curation.catalog.schema import STATES
from curation.catalog.task_definitions import Definition

__all__ = ["COLUMNS", "NO_CLASS", "coded", "complaints"]

NO_CLASS: Final = "correct the label or add the class"
"""The end of the message about a word that is no class."""

COLUMNS: Final = [
    "sample_id", "task_id", "annotator_id", "state", "code", "number", "codes", "looked", "boxes", "confidence",
    "labelled_at", "instructions",
]  # fmt: skip
"""Columns of `label_event` without the commit."""

OUTSIDE: Final = """len(list_filter(boxes, lambda b: b.code IS NULL OR NOT coalesce(b.w > 0 AND b.h > 0
    AND b.x >= 0 AND b.y >= 0 AND b.x + b.w <= width AND b.y + b.h <= height, false))) > 0"""

MISFIT: Final = """len(list_filter(boxes, lambda b: len(list_filter(map_entries(b.attributes), lambda e:
    allowed[e.key] IS NOT NULL AND CASE WHEN len(allowed[e.key]) = 0
        THEN NOT coalesce(isfinite(TRY_CAST(e.value AS DOUBLE)), false)
        ELSE NOT list_contains(allowed[e.key], e.value) END)) > 0)) > 0"""
"""A declared attribute of a box that is none of its classes, or no number."""

RULES: Final = [
    ("sample_id IS NULL", "key {key!r}: no such sample; ingest the image first"),
    ("task_id IS NULL", "task {task!r}: the catalog has no such task; `amber tasks` lists them"),
    ("state IS NULL", "state {state!r} of {key!r}: must be known, unsure, inapplicable or retracted"),
    ("coalesce(annotator, '') = ''", "annotator {annotator!r}: every label has one; name the annotator"),
    (
        "NOT coalesce(confidence > 0 AND confidence <= 1, false)",
        "confidence {confidence!r} of {key!r}: must be above 0 and at most 1; correct it",
    ),
    (
        "state = 1 AND kind IN ('binary', 'categorical') AND code IS NULL",
        f"{{text!r}} of {{key!r}}: task {{task}} has no such class; {NO_CLASS}",
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
        "asked IS NOT NULL AND kind <> 'multilabel'",
        "looked {looked!r} of {key!r}: only a label of several classes says which were looked for; leave it out",
    ),
    (
        "state = 1 AND kind = 'multilabel' AND (len(looked) = 0 OR list_contains(looked, -1))",
        "looked {looked!r} of {key!r}: task {task} takes a list of some of its classes; correct the label",
    ),
    (
        f"state = 1 AND kind = 'detection' AND (boxes IS NULL OR {OUTSIDE})",
        "boxes of {key!r}: task {task} takes boxes of its classes, inside the image; correct them",
    ),
    (
        f"state = 1 AND kind = 'detection' AND coalesce({MISFIT}, false)",
        "attributes of boxes of {key!r} ({stated}): task {task} declares other values; correct them, or declare these",
    ),
]
"""What makes a single label invalid, with its message. The first rule that a label breaks is reported."""

TWICE: Final = "label of {key!r} for {task}: is in this batch twice; keep one"
BEFORE: Final = "label of {key!r} for {task}: was already given in this commit; keep one"

MESSAGES: Final = [*(message for _, message in RULES), TWICE, BEFORE]

STATE: Final = f"CASE incoming.state {' '.join(f'WHEN {name!r} THEN {code}' for name, code in STATES.items())} END"

SAMPLES: Final = """LEFT JOIN (
    SELECT DISTINCT sample_id, CAST(NULL AS INTEGER) AS width, CAST(NULL AS INTEGER) AS height
    FROM incoming ANTI JOIN forgotten USING (sample_id)
    WHERE sample_id BETWEEN 0 AND (SELECT max(sample_id) FROM sample)) AS sample USING (sample_id)"""
"""Existing sample ids, without a scan of the samples: all up to the largest one except the forgotten."""

TASKS: Final = pa.schema(
    [
        ("task", pa.string()), ("task_id", pa.int32()), ("kind", pa.string()), ("classes", pa.list_(pa.string())),
        ("entries", pa.list_(pa.int32())), ("allowed", pa.map_(pa.string(), pa.list_(pa.string()))),
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
    """`labels` with ids and codes, and `broken`: the index in `MESSAGES` of the first rule that each breaks, or null.

    `labels` has the columns of `LABELS`, or `sample_id` in place of `key`, which saves the lookup of keys. `row` is the
    row number in `labels`; the result is sorted by task, then sample, then row. An id is null when there is no such
    sample or task. `given` names a source and the pending commit, if that commit already has labels.
    """
    names = set(pc.unique(labels["task"]).to_pylist())
    boxed = any(part.task.kind == "detection" and part.task.name in names for part in definitions)
    rows = _sorted(
        query_arrow(
            connection, _query(labels, boxed=boxed), [at],
            incoming=labels.append_column("row", pa.array(np.arange(len(labels)))), definition=_tasks(definitions),
        )
    )  # fmt: skip
    rows = _marked(rows, _twice(connection, rows), TWICE)
    return _marked(rows, _before(connection, rows, *given), BEFORE) if given else rows


def complaints(labels: pa.Table, broken: pa.Table) -> Iterator[tuple[str, str]]:
    """The key and the message of each invalid row of `coded`; the message begins with the label's origin.

    `labels` is the table that was coded.
    """
    for row, rule in zip(labels.take(broken["row"]).to_pylist(), broken["broken"].to_pylist(), strict=True):
        row["key"] = str(row["sample_id"] if row.get("sample_id") is not None else row["key"])
        attributes = {pair for each in row["boxes"] or () if each for pair in each["attributes"] or ()}
        row["stated"] = ", ".join(f"{name} = {value}" for name, value in sorted(attributes))[:200]
        message = MESSAGES[rule].format(**row)
        yield row["key"], f"{row['origin']}: {message}" if row["origin"] else message


def _tasks(definitions: Collection[Definition]) -> pa.Table:
    rows = [
        {
            "task": part.task.name, "task_id": part.task_id, "kind": part.task.kind, "classes": part.task.classes,
            "entries": part.entries,
            "allowed": [(name, [] if isinstance(says, str) else list(says)) for name, says in part.task.attributes],
        } for part in definitions
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, TASKS)


def _query(labels: pa.Table, *, boxed: bool) -> str:
    """SQL of the coded labels; `boxed` when there may be boxes, which are compared with the size of the image."""
    by_id = "sample_id" in labels.column_names
    version = "instructions" if "instructions" in labels.column_names else "CAST(NULL AS INTEGER)"
    sample = SAMPLES if by_id and not boxed else f"LEFT JOIN sample USING ({'sample_id' if by_id else 'key'})"
    ranks = " ".join(f"WHEN {broken} THEN {rank}" for rank, (broken, _) in enumerate(RULES))
    return f"""
        SELECT row, sample_id, task_id, annotator, state, code, number, codes, looked, boxes, confidence, labelled_at,
            instructions, CASE {ranks} END AS broken FROM (
        SELECT row, sample.sample_id, width, height, kind, allowed, task_id,
            annotator, CAST({STATE} AS UTINYINT) AS state,
            incoming.looked AS asked,
            CASE WHEN incoming.state = 'known' AND kind IN ('binary', 'categorical')
                THEN entries[list_position(classes, text)] END AS code,
            CASE WHEN incoming.state = 'known' AND kind = 'regression' THEN number END AS number,
            CASE WHEN incoming.state = 'known' AND kind = 'multilabel' THEN list_sort(list_distinct(
                list_transform(names, lambda n: coalesce(entries[list_position(classes, n)], -1)))) END AS codes,
            CASE WHEN incoming.state = 'known' AND kind = 'multilabel' AND looked IS NOT NULL
                THEN list_sort(list_distinct(list_transform(list_concat(looked, names),
                    lambda n: coalesce(entries[list_position(classes, n)], -1)))) END AS looked,
            CASE WHEN incoming.state = 'known' AND kind = 'detection' THEN list_transform(boxes, lambda b: {{
                'code': entries[list_position(classes, b.class)],
                'x': b.x, 'y': b.y, 'w': b.w, 'h': b.h, 'attributes': b.attributes}}) END AS boxes,
            coalesce(confidence, CAST(1 AS REAL)) AS confidence, coalesce(labelled_at, ?) AS labelled_at,
            {version} AS instructions
        FROM incoming {sample}
        LEFT JOIN definition ON definition.task = incoming.task)"""


def _twice(connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> pa.Table:
    """Rows that share annotator, task and sample with another row of the batch."""
    cell = ("task_id", "sample_id")
    follows = np.logical_and.reduce([np.diff(pc.fill_null(rows[name], -1).to_numpy()) == 0 for name in cell])
    shared = np.append(follows, False) | np.append(False, follows)
    if not shared.any():
        return rows.slice(0, 0)
    return query_arrow(
        connection,
        "SELECT row FROM incoming QUALIFY count(*) OVER (PARTITION BY sample_id, task_id, annotator) > 1",
        incoming=rows.select(["row", "sample_id", "task_id", "annotator"]).filter(pa.array(shared)),
    )


def _before(connection: duckdb.DuckDBPyConnection, rows: pa.Table, source: str, commit: int) -> pa.Table:
    """Rows whose annotator already labelled the same task and sample in this commit."""
    return query_arrow(
        connection,
        "SELECT row FROM incoming JOIN annotator ON name = annotator AND annotator.source = ? "
        "SEMI JOIN (FROM label_event WHERE commit_id = ?) USING (sample_id, task_id, annotator_id)",
        [source, commit],
        incoming=rows.select(["row", "sample_id", "task_id", "annotator"]),
    )


def _marked(rows: pa.Table, hits: pa.Table, message: str) -> pa.Table:
    """`rows` with the index of `message` in `broken` for those in `hits`, unless they break an earlier rule."""
    if not len(hits):
        return rows
    rank = pa.scalar(MESSAGES.index(message), rows["broken"].type)
    hit = pc.and_(pc.is_in(rows["row"], value_set=hits["row"].combine_chunks()), pc.is_null(rows["broken"]))
    column = rows.schema.get_field_index("broken")
    return rows.set_column(column, "broken", pc.if_else(hit, rank, rows["broken"]))


def _sorted(rows: pa.Table) -> pa.Table:
    """Rows by task, then sample, then row: this order compresses best, and gives equal batches equal digests."""
    keys = [pc.fill_null(rows[name], -1).to_numpy() for name in ("row", "sample_id", "task_id")]
    order = np.lexsort(keys)
    return rows if bool((order == np.arange(len(order))).all()) else rows.take(pa.array(order))
