"""What holds from which commit to which: the current-label rule, and the intervals that keep its answers.

`label_event` and `attribute_event` are the truth. `label_interval` and `attribute_interval` hold what they say of every
(task, sample) and (attribute, sample), sorted, for all commits up to the one that `folded` names. A read takes the
intervals, replaces what later events touch, and so costs the same at the head and at any older commit. `fold` rewrites
the intervals with what came since; it is a pure function of the events, and so may be repeated, or left out, at will.
"""

from collections.abc import Sequence

import duckdb

from curation.catalog.arrow_query import scalar
from curation.catalog.schema import PRECEDENCE

__all__ = ["PATIENCE", "attribute_at", "due", "fold", "folded", "labels_at", "relabel_from_events", "statements_at"]

PATIENCE = 100_000
"""Events that wait at least before they are folded in."""

EVENTS = ("label_event", "attribute_event")

ANSWER = "state, code, number, codes, boxes, source"
"""Columns of what the rule says of one (task, sample)."""

RANK = " ".join(f"WHEN '{source}' THEN {rank}" for source, rank in PRECEDENCE.items())

DEFINITION = """
definition AS (
    SELECT task_id, commit_id AS since, lead(commit_id) OVER later AS until, codes AS meaning, tolerance,
        coalesce(codes[:len(lag(codes) OVER later)] <> lag(codes) OVER later
            OR tolerance <> lag(tolerance) OVER later, false) AS remaps
    FROM (SELECT *, CAST(definition ->> 'tolerance' AS DOUBLE) AS tolerance FROM task_event)
    WINDOW later AS (PARTITION BY task_id ORDER BY commit_id))"""
"""Each definition of a task: from which commit until which it holds, and which class each code of the ledger means.
It `remaps` when old labels may count otherwise by it: their classes are others, or other numbers agree."""

RULE = """
meant AS (
    SELECT statement.* EXCLUDE (state, code, codes, boxes), tolerance,
        CASE WHEN code IS NOT NULL AND meaning[code + 1] IS NULL
            OR len(list_filter(codes, lambda c: meaning[c + 1] IS NULL)) > 0
            OR len(list_filter(boxes, lambda b: meaning[b.code + 1] IS NULL)) > 0 THEN 0 ELSE state END AS state,
        meaning[code + 1] AS code,
        list_sort(list_distinct(list_transform(codes, lambda c: meaning[c + 1]))) AS codes,
        list_transform(boxes, lambda b: struct_update(b, code := meaning[b.code + 1])) AS boxes
    FROM statement JOIN definition ON statement.task_id = definition.task_id
        AND moment >= since AND (until IS NULL OR moment < until)),
newest AS (
    SELECT * FROM meant SEMI JOIN (
        SELECT task_id, sample_id, moment, annotator_id, max(commit_id) AS commit_id FROM meant GROUP BY ALL)
    USING (task_id, sample_id, moment, annotator_id, commit_id) WHERE state <> 0),
best AS (
    SELECT task_id, sample_id, moment, min(rank) AS rank, arg_min(people, rank) AS people FROM (
        SELECT task_id, sample_id, moment, rank, count(*) AS people FROM newest GROUP BY ALL) GROUP BY ALL),
standing AS (SELECT * FROM newest JOIN best USING (task_id, sample_id, moment, rank)),
vote AS (
    SELECT task_id, sample_id, moment, state, code, count(*) AS votes, min(source) AS source,
        (4 * count(*) - state) * 2147483648 - coalesce(code, -1) AS precedence
    FROM standing WHERE people > 1 GROUP BY task_id, sample_id, moment, state, code),
winner AS (
    SELECT task_id, sample_id, moment, sum(votes) AS people, max(votes) AS votes, arg_max(state, precedence) AS state,
        nullif(arg_max(coalesce(code, -1), precedence), -1) AS code, arg_max(source, precedence) AS source
    FROM vote GROUP BY task_id, sample_id, moment),
middle AS (
    SELECT task_id, sample_id, moment, median(number) AS number,
        max(number) - min(number) > any_value(tolerance) AS apart
    FROM standing WHERE people > 1 AND number IS NOT NULL GROUP BY task_id, sample_id, moment),
said AS (
    SELECT task_id, sample_id, moment, flatten(list(codes)) AS said,
        list_sort(list_distinct(flatten(list(codes)))) AS each
    FROM standing WHERE people > 1 AND codes IS NOT NULL GROUP BY task_id, sample_id, moment),
drawn AS (
    SELECT task_id, sample_id, moment, list(boxes ORDER BY commit_id, annotator_id) AS drawn
    FROM standing WHERE people > 1 AND boxes IS NOT NULL GROUP BY task_id, sample_id, moment),
gathered AS (
    SELECT winner.*, number, apart, list_transform(each,
        lambda c: {'code': c, 'votes': len(list_filter(said, lambda other: other = c))}) AS each,
        drawn, CASE len(drawn) WHEN 1 THEN drawn[1] ELSE agreed_boxes(drawn) END AS boxes
    FROM winner LEFT JOIN middle USING (task_id, sample_id, moment) LEFT JOIN said USING (task_id, sample_id, moment)
    LEFT JOIN drawn USING (task_id, sample_id, moment)),
resolved AS (
    SELECT *, 2 * votes <= people OR state = 2 OR coalesce(apart, false)
        OR coalesce(len(list_filter(each, lambda e: 2 * e.votes = votes)) > 0, false)
        OR (drawn IS NOT NULL AND boxes IS NULL) AS doubtful
    FROM gathered),
answer AS (
    SELECT task_id, sample_id, moment, state, code, number, codes, boxes, source FROM standing WHERE people = 1
    UNION ALL
    SELECT task_id, sample_id, moment, CAST(CASE WHEN doubtful THEN 2 ELSE 1 END AS UTINYINT) AS state,
        CASE WHEN NOT doubtful THEN code END AS code, CASE WHEN NOT doubtful THEN number END AS number,
        CASE WHEN NOT doubtful THEN
            list_transform(list_filter(each, lambda e: 2 * e.votes > votes), lambda e: e.code) END AS codes,
        CASE WHEN NOT doubtful THEN boxes END AS boxes, source
    FROM resolved)"""
"""The current-label rule, over `statement`: what stood at commit `moment`. The newest label of each annotator counts;
the best source stands; several people resolve by majority, a multilabel by class, numbers by the median if all lie
within the tolerance, boxes as `boxes.agreed` says; no majority, or one of unsure, is unsure. A label of a class that a
later definition cannot place is unknown."""

EVENT = f"""
    SELECT event.*, source, CASE source {RANK} END AS rank
    FROM label_event AS event JOIN annotator USING (annotator_id)"""


def folded(connection: duckdb.DuckDBPyConnection) -> int:
    """The commit up to which the intervals are complete."""
    return int(scalar(connection, "SELECT id FROM folded"))


def due(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether so many events came since that reading them beside the intervals costs more than folding them in."""
    later = f"WHERE commit_id > {folded(connection)}"
    pending, total = (
        sum(int(scalar(connection, f"SELECT count(*) FROM {table} {which}")) for table in EVENTS)
        for which in (later, "")
    )
    return pending > max(PATIENCE, total // 4)


def labels_at(connection: duckdb.DuckDBPyConnection, commit: int, task_ids: Sequence[int] | None = None) -> str:
    """SQL of current labels as of `commit`, of some tasks or of all: task_id, sample_id and the columns of `ANSWER`."""
    until = folded(connection)
    mine = "true" if task_ids is None else f"task_id IN ({', '.join(map(str, task_ids)) or 'NULL'})"
    base = (
        f"SELECT task_id, sample_id, {ANSWER} FROM label_interval "
        f"WHERE {mine} AND valid_from <= {commit} AND (valid_to IS NULL OR valid_to > {commit})"
    )
    remapped = _remapped(connection, until, commit)
    moved = f"SELECT task_id, sample_id FROM label_event WHERE {mine} AND commit_id > {until} AND commit_id <= {commit}"
    if remapped:
        moved += f" UNION SELECT task_id, sample_id FROM label_event WHERE {mine} AND task_id IN ({remapped})"
    if commit <= until or not connection.execute(f"SELECT 1 FROM ({moved}) LIMIT 1").fetchall():
        return base
    resolved = relabel_from_events(
        commit, f"{mine} AND commit_id <= {commit}", "SEMI JOIN touched USING (task_id, sample_id)"
    )
    return f"""
        WITH touched AS MATERIALIZED (SELECT DISTINCT task_id, sample_id FROM ({moved})),
        untouched AS ({base}) FROM untouched ANTI JOIN touched USING (task_id, sample_id) UNION ALL ({resolved})"""


def relabel_from_events(commit: int, events: str, cells: str = "") -> str:
    """SQL of the same, from the events alone: those that `events` admits, of the cells that `cells` joins."""
    return f"""
        WITH {DEFINITION}, statement AS (SELECT *, {commit} AS moment FROM ({EVENT} WHERE {events}) {cells}), {RULE}
        SELECT task_id, sample_id, {ANSWER} FROM answer"""


def statements_at(commit: int, task_id: int) -> str:
    """SQL of the newest label of each annotator for one task, whoever counts."""
    events = f"task_id = {task_id} AND commit_id <= {commit}"
    return f"""
        WITH {DEFINITION}, statement AS (SELECT *, {commit} AS moment FROM ({EVENT} WHERE {events})), {RULE}
        SELECT sample_id, annotator_id, source, state, code, number, codes, boxes, confidence, labelled_at, commit_id
        FROM newest WHERE state <> 0"""


def attribute_at(connection: duckdb.DuckDBPyConnection, commit: int, name: str, type_: str) -> str:
    """SQL of the current values of one attribute as of `commit`: sample_id, value. An event without one ends it."""
    until, mine = folded(connection), "name = '" + name.replace("'", "''") + "'"
    base = (
        f"SELECT sample_id, {type_} AS value FROM attribute_interval WHERE {mine} AND {type_} IS NOT NULL "
        f"AND valid_from <= {commit} AND (valid_to IS NULL OR valid_to > {commit})"
    )
    moved = f"FROM attribute_event WHERE {mine} AND commit_id > {until} AND commit_id <= {commit}"
    if commit <= until or not connection.execute(f"SELECT 1 {moved} LIMIT 1").fetchall():
        return base
    return f"""
        WITH touched AS MATERIALIZED (
            SELECT sample_id, {type_} AS value {moved}
            QUALIFY commit_id = max(commit_id) OVER (PARTITION BY sample_id)),
        untouched AS ({base})
        FROM untouched ANTI JOIN touched USING (sample_id) UNION ALL FROM touched WHERE value IS NOT NULL"""


def fold(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring the intervals up to the newest commit, inside the caller's transaction."""
    until, head = folded(connection), scalar(connection, "SELECT id FROM head")
    if until == head:
        return
    _fold_labels(connection, until, head)
    _fold_attributes(connection, until)
    connection.execute("UPDATE folded SET id = ?", [head])


def _fold_labels(connection: duckdb.DuckDBPyConnection, until: int, head: int) -> None:
    """Replace the intervals of every cell that an event, or a definition that maps classes anew, touched.

    A cell with one event in all is its own answer; the others go through the rule at each of their commits.
    """
    remapped = _remapped(connection, until, head)
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE touched AS
        SELECT task_id, sample_id, count(*) = 1 AND task_id NOT IN (
            WITH {DEFINITION} SELECT task_id FROM definition WHERE remaps) AS once
        FROM label_event {
            ""
            if until == 0
            else "SEMI JOIN (SELECT task_id, sample_id FROM label_event "
            f"WHERE commit_id > {until} OR task_id IN ({remapped or 'NULL'})) USING (task_id, sample_id)"
        }
        GROUP BY task_id, sample_id"""
    )
    kept = "FROM label_interval ANTI JOIN touched USING (task_id, sample_id)" if until else "FROM label_interval"
    single = f"""
        SELECT task_id, sample_id, commit_id AS valid_from, CAST(NULL AS BIGINT) AS valid_to, {ANSWER}
        FROM ({EVENT}) SEMI JOIN (FROM touched WHERE once) USING (task_id, sample_id) WHERE state <> 0"""
    several = f"""
        SELECT task_id, sample_id, point.moment AS valid_from, point.next AS valid_to, {ANSWER}
        FROM answer JOIN point USING (task_id, sample_id, moment)"""
    connection.execute(
        f"""CREATE TABLE label_fold AS WITH {DEFINITION},
        event AS MATERIALIZED ({EVENT} SEMI JOIN (FROM touched WHERE NOT once) USING (task_id, sample_id)),
        point AS MATERIALIZED (
            SELECT *, lead(moment) OVER (PARTITION BY task_id, sample_id ORDER BY moment) AS next FROM (
                SELECT task_id, sample_id, commit_id AS moment FROM event
                UNION SELECT task_id, sample_id, since AS moment FROM event JOIN definition USING (task_id)
                    WHERE remaps AND since > commit_id)),
        statement AS (
            SELECT event.*, moment FROM point JOIN event USING (task_id, sample_id) WHERE commit_id <= moment), {RULE}
        FROM ({kept} UNION ALL ({single}) UNION ALL ({several})) ORDER BY task_id, sample_id, valid_from"""
    )
    connection.execute("DROP TABLE label_interval")
    connection.execute("ALTER TABLE label_fold RENAME TO label_interval")
    connection.execute("DROP TABLE touched")


def _fold_attributes(connection: duckdb.DuckDBPyConnection, until: int) -> None:
    touched = f"(SELECT name, sample_id FROM attribute_event WHERE commit_id > {until})"
    kept, moved = (f"{kind} JOIN {touched} USING (name, sample_id)" if until else "" for kind in ("ANTI", "SEMI"))
    connection.execute(
        f"""CREATE TABLE attribute_fold AS FROM (
            FROM attribute_interval {kept}
            UNION ALL SELECT name, sample_id, commit_id AS valid_from,
                lead(commit_id) OVER (PARTITION BY name, sample_id ORDER BY commit_id) AS valid_to,
                text, number, flag, time FROM attribute_event {moved})
        ORDER BY name, sample_id, valid_from"""
    )
    connection.execute("DROP TABLE attribute_interval")
    connection.execute("ALTER TABLE attribute_fold RENAME TO attribute_interval")


def _remapped(connection: duckdb.DuckDBPyConnection, after: int, commit: int) -> str:
    """Ids of tasks whose classes a definition in (after, commit] maps anew, with commas between."""
    rows = connection.execute(
        f"WITH {DEFINITION} SELECT DISTINCT task_id FROM definition WHERE remaps AND since > ? AND since <= ?",
        [after, commit],
    ).fetchall()
    return ", ".join(str(task_id) for (task_id,) in rows)
