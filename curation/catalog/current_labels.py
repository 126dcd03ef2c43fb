"""The current-label rule, and the intervals of commits in which each of its results holds.

`label_event` and `attribute_event` are the source of truth. `label_interval` and `attribute_interval` hold the results
of the rule for every (task, sample) and (attribute, sample), sorted, for all commits up to the one in `folded`. A read
takes the intervals and recomputes only what later events touch, so it costs the same at the newest commit and at any
older one. `fold` brings the intervals up to date; it is a pure function of the events and may be repeated or skipped.
"""

from collections.abc import Sequence

import duckdb

from curation.catalog.arrow_query import quoted, scalar
from curation.catalog.schema import PRECEDENCE

__all__ = [
    "PATIENCE",
    "annotator_labels_at",
    "attribute_at",
    "due",
    "fold",
    "folded",
    "instructions_at",
    "labels_at",
    "maybe_labelled_at",
    "relabel_from_events",
]

PATIENCE = 100_000
"""At least this many events wait before they are folded into the intervals."""

EVENTS = ("label_event", "attribute_event")

ANSWER = "state, code, number, codes, looked, boxes, source"
"""Columns of the current label of one (task, sample)."""

RANK = " ".join(f"WHEN '{source}' THEN {rank}" for source, rank in PRECEDENCE.items())

DEFINITION = """
definition AS (
    SELECT task_id, commit_id AS since, lead(commit_id) OVER later AS until, codes AS meaning, tolerance,
        coalesce(codes[:len(lag(codes) OVER later)] <> lag(codes) OVER later
            OR tolerance <> lag(tolerance) OVER later, false) AS remaps
    FROM (SELECT *, CAST(definition ->> 'tolerance' AS DOUBLE) AS tolerance FROM task_event)
    WINDOW later AS (PARTITION BY task_id ORDER BY commit_id))"""
"""Each definition of a task: from which commit to which it holds, and the class that each stored code means.
It `remaps` when it may change current labels: it changes the classes of old codes, or the tolerance of numbers."""

RULE = """
meant AS (
    SELECT claim.* EXCLUDE (state, code, codes, looked, boxes), tolerance,
        CASE WHEN code IS NOT NULL AND meaning[code + 1] IS NULL
            OR len(list_filter(codes, lambda c: meaning[c + 1] IS NULL)) > 0
            OR len(list_filter(looked, lambda c: meaning[c + 1] IS NOT NULL)) = 0
            OR len(list_filter(boxes, lambda b: meaning[b.code + 1] IS NULL)) > 0 THEN 0 ELSE state END AS state,
        meaning[code + 1] AS code,
        list_sort(list_distinct(list_transform(codes, lambda c: meaning[c + 1]))) AS codes,
        list_sort(list_distinct(list_filter(list_transform(looked, lambda c: meaning[c + 1]), lambda m: m IS NOT NULL
            AND len(list_filter(range(len(meaning)), lambda e: meaning[e + 1] = m AND NOT list_contains(looked, e)
                AND len(list_filter(codes, lambda c: meaning[c + 1] = m)) = 0)) = 0))) AS looked,
        list_transform(boxes, lambda b: struct_update(b, code := meaning[b.code + 1])) AS boxes
    FROM claim JOIN definition ON claim.task_id = definition.task_id
        AND moment >= since AND (until IS NULL OR moment < until)),
newest AS (
    SELECT * FROM meant SEMI JOIN (
        SELECT task_id, sample_id, moment, annotator_id, max(commit_id) AS commit_id FROM meant GROUP BY ALL)
    USING (task_id, sample_id, moment, annotator_id, commit_id) WHERE state <> 0),
best AS (
    SELECT task_id, sample_id, moment, min(rank) AS rank, arg_min(people, rank) AS people FROM (
        SELECT task_id, sample_id, moment, rank, count(*) AS people FROM newest GROUP BY ALL) GROUP BY ALL),
counted AS (SELECT * FROM newest JOIN best USING (task_id, sample_id, moment, rank)),
vote AS (
    SELECT task_id, sample_id, moment, state, code, count(*) AS votes, min(source) AS source,
        (4 * count(*) - state) * 2147483648 - coalesce(code, -1) AS precedence
    FROM counted WHERE people > 1 GROUP BY task_id, sample_id, moment, state, code),
winner AS (
    SELECT task_id, sample_id, moment, sum(votes) AS people, max(votes) AS votes, arg_max(state, precedence) AS state,
        nullif(arg_max(coalesce(code, -1), precedence), -1) AS code, arg_max(source, precedence) AS source
    FROM vote GROUP BY task_id, sample_id, moment),
middle AS (
    SELECT task_id, sample_id, moment, median(number) AS number,
        max(number) - min(number) > any_value(tolerance) AS apart
    FROM counted WHERE people > 1 AND number IS NOT NULL GROUP BY task_id, sample_id, moment),
named AS (
    SELECT task_id, sample_id, moment, flatten(list(codes)) AS named,
        list(looked) FILTER (looked IS NOT NULL) AS parts,
        list_sort(list_distinct(flatten(list(codes)))) AS each
    FROM counted WHERE people > 1 AND codes IS NOT NULL GROUP BY task_id, sample_id, moment),
drawn AS (
    SELECT task_id, sample_id, moment, list(boxes ORDER BY commit_id, annotator_id) AS drawn
    FROM counted WHERE people > 1 AND boxes IS NOT NULL GROUP BY task_id, sample_id, moment),
gathered AS (
    SELECT winner.*, number, apart, list_transform(each,
        lambda c: {'code': c, 'votes': len(list_filter(named, lambda other: other = c)),
            'looked': votes - coalesce(len(list_filter(parts, lambda part: NOT list_contains(part, c))), 0)}) AS each,
        CASE WHEN len(parts) = votes THEN list_sort(list_distinct(flatten(parts))) END AS looked,
        drawn, CASE len(drawn) WHEN 1 THEN drawn[1] ELSE agreed_boxes(drawn) END AS boxes
    FROM winner LEFT JOIN middle USING (task_id, sample_id, moment) LEFT JOIN named USING (task_id, sample_id, moment)
    LEFT JOIN drawn USING (task_id, sample_id, moment)),
resolved AS (
    SELECT *, 2 * votes <= people OR state = 2 OR (state = 1 AND (coalesce(apart, false)
        OR coalesce(len(list_filter(each, lambda e: 2 * e.votes = e.looked)) > 0, false)
        OR (drawn IS NOT NULL AND boxes IS NULL))) AS doubtful
    FROM gathered),
answer AS (
    SELECT task_id, sample_id, moment, state, code, number, codes, looked, boxes, source FROM counted WHERE people = 1
    UNION ALL
    SELECT task_id, sample_id, moment, CAST(CASE WHEN doubtful THEN 2 ELSE state END AS UTINYINT) AS state,
        CASE WHEN held THEN code END AS code, CASE WHEN held THEN number END AS number,
        CASE WHEN held THEN
            list_transform(list_filter(each, lambda e: 2 * e.votes > e.looked), lambda e: e.code) END AS codes,
        CASE WHEN held THEN looked END AS looked,
        CASE WHEN held THEN boxes END AS boxes, source
    FROM (SELECT *, NOT doubtful AND state = 1 AS held FROM resolved))"""
"""The current-label rule, over `claim`: the events that each commit `moment` can see.

1. Of each annotator, the newest label counts, unless it is retracted or its class no longer exists. A merged class
   was looked for where all its parts were, or where it is there.
2. Of these, only the best source counts: lead before human and oracle before import before model.
3. One label is taken as it is. Several resolve by majority: of classes; for a multilabel, of each class by itself,
   among those who looked for it; for boxes, as `box_agreement.agreed_boxes` does. Numbers give their median if all lie
   within the task's tolerance.
4. Where most annotators say that the task does not apply, the label is inapplicable and has no value.
5. Without a majority, or with a majority of unsure, the label is unsure."""

EVENT = f"""
    SELECT event.*, source, CASE source {RANK} END AS rank
    FROM label_event AS event JOIN annotator USING (annotator_id)"""


def folded(connection: duckdb.DuckDBPyConnection) -> int:
    """The newest commit that the intervals include."""
    return int(scalar(connection, "SELECT id FROM folded"))


def due(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether so many events are not folded yet that reading them costs more than a fold."""
    later = f"WHERE commit_id > {folded(connection)}"
    pending, total = (
        sum(int(scalar(connection, f"SELECT count(*) FROM {table} {which}")) for table in EVENTS)
        for which in (later, "")
    )
    return pending > max(PATIENCE, total // 4)


def labels_at(
    connection: duckdb.DuckDBPyConnection, commit: int, task_ids: Sequence[int] | None = None, within: str = "true"
) -> str:
    """SQL of the current labels as of `commit`, of some tasks or of all: task_id, sample_id and `ANSWER`.

    `within` is a condition on `sample_id`.
    """
    mine = within if task_ids is None else f"task_id IN ({', '.join(map(str, task_ids)) or 'NULL'}) AND {within}"
    base, moved = _stored(commit, mine), _moved(connection, commit, mine)
    if not moved:
        return base
    resolved = relabel_from_events(
        commit, f"{mine} AND commit_id <= {commit}", "SEMI JOIN touched USING (task_id, sample_id)"
    )
    return f"""
        WITH touched AS MATERIALIZED (SELECT DISTINCT task_id, sample_id FROM ({moved})),
        untouched AS ({base}) FROM untouched ANTI JOIN touched USING (task_id, sample_id) UNION ALL ({resolved})"""


def maybe_labelled_at(connection: duckdb.DuckDBPyConnection, commit: int, task_id: int, within: str) -> str:
    """SQL of the samples that may have a current label of a task as of `commit`: sample_id.

    They are those of `labels_at`, and samples whose labels later events end. The rule is not run, which takes DuckDB 30
    ms to plan.
    """
    mine = f"task_id = {task_id} AND {within}"
    stored, moved = f"SELECT sample_id FROM ({_stored(commit, mine)})", _moved(connection, commit, mine)
    return f"{stored} UNION SELECT sample_id FROM ({moved})" if moved else stored


def _stored(commit: int, mine: str) -> str:
    """SQL of the intervals that hold at `commit`."""
    return (
        f"SELECT task_id, sample_id, {ANSWER} FROM label_interval "
        f"WHERE {mine} AND valid_from <= {commit} AND (valid_to IS NULL OR valid_to > {commit})"
    )


def _moved(connection: duckdb.DuckDBPyConnection, commit: int, mine: str) -> str:
    """SQL of the cells (task_id, sample_id) that events touch which are not folded yet; "" when there is none."""
    until = folded(connection)
    if commit <= until:
        return ""
    remapped = _remapped(connection, until, commit)
    moved = f"SELECT task_id, sample_id FROM label_event WHERE {mine} AND commit_id > {until} AND commit_id <= {commit}"
    if remapped:
        moved += f" UNION SELECT task_id, sample_id FROM label_event WHERE {mine} AND task_id IN ({remapped})"
    return moved if connection.execute(f"SELECT 1 FROM ({moved}) LIMIT 1").fetchall() else ""


def relabel_from_events(commit: int, events: str, cells: str = "") -> str:
    """SQL of the same from events alone: those that satisfy `events`, of the (task, sample) pairs in `cells`."""
    return f"""
        WITH {DEFINITION}, claim AS (SELECT *, {commit} AS moment FROM ({EVENT} WHERE {events}) {cells}), {RULE}
        SELECT task_id, sample_id, {ANSWER} FROM answer"""


def annotator_labels_at(commit: int, task_id: int) -> str:
    """SQL of the newest label of each annotator for one task, from every source."""
    events = f"task_id = {task_id} AND commit_id <= {commit}"
    return f"""
        WITH {DEFINITION}, claim AS (SELECT *, {commit} AS moment FROM ({EVENT} WHERE {events})), {RULE}
        SELECT sample_id, annotator_id, source, state, code, number, codes, looked, boxes, confidence, labelled_at,
            instructions, commit_id
        FROM newest WHERE state <> 0"""


def instructions_at(commit: int, task_id: int, within: str = "true") -> str:
    """SQL of the lowest version of a task's instructions under which people gave the newest labels that count for a
    sample: sample_id, value. It is 0 where no version is known; samples without a label by people are left out.

    `within` is a condition on `sample_id`.
    """
    events = f"task_id = {task_id} AND commit_id <= {commit} AND {within} AND source IN ('lead', 'human')"
    return f"""
        SELECT sample_id, CAST(min(version) AS BIGINT) AS value FROM (
            SELECT sample_id, annotator_id, rank, arg_max(state, commit_id) AS state,
                arg_max(coalesce(instructions, 0), commit_id) AS version FROM ({EVENT} WHERE {events})
            GROUP BY sample_id, annotator_id, rank HAVING arg_max(state, commit_id) <> 0
            QUALIFY rank = min(rank) OVER (PARTITION BY sample_id))
        GROUP BY sample_id"""


def attribute_at(
    connection: duckdb.DuckDBPyConnection, commit: int, name: str, type_: str, within: str = "true"
) -> str:
    """SQL of the current values of one attribute as of `commit`: sample_id, value. An event without a value ends it.

    `within` is a condition on `sample_id`.
    """
    until, mine = folded(connection), f"name = {quoted(name)} AND {within}"
    base = (
        f'SELECT sample_id, "{type_}" AS value FROM attribute_interval WHERE {mine} AND "{type_}" IS NOT NULL '
        f"AND valid_from <= {commit} AND (valid_to IS NULL OR valid_to > {commit})"
    )
    moved = f"FROM attribute_event WHERE {mine} AND commit_id > {until} AND commit_id <= {commit}"
    if commit <= until or not connection.execute(f"SELECT 1 {moved} LIMIT 1").fetchall():
        return base
    return f"""
        WITH touched AS MATERIALIZED (
            SELECT sample_id, "{type_}" AS value {moved}
            QUALIFY commit_id = max(commit_id) OVER (PARTITION BY sample_id)),
        untouched AS ({base})
        FROM untouched ANTI JOIN touched USING (sample_id) UNION ALL FROM touched WHERE value IS NOT NULL"""


def fold(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring the intervals up to the newest commit, in the transaction of the caller."""
    until, head = folded(connection), scalar(connection, "SELECT id FROM head")
    if until == head:
        return
    _fold_labels(connection, until, head)
    _fold_attributes(connection, until)
    connection.execute("UPDATE folded SET id = ?", [head])


def _fold_labels(connection: duckdb.DuckDBPyConnection, until: int, head: int) -> None:
    """Replace the intervals of every (task, sample) that a new event, or a definition that remaps, touches.

    A pair with a single event needs no rule; for all others the rule runs at each commit that touches them.
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
        claim AS (
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
                text, number, flag, time, "integer" FROM attribute_event {moved})
        ORDER BY name, sample_id, valid_from"""
    )
    connection.execute("DROP TABLE attribute_interval")
    connection.execute("ALTER TABLE attribute_fold RENAME TO attribute_interval")


def _remapped(connection: duckdb.DuckDBPyConnection, after: int, commit: int) -> str:
    """Ids of tasks with a definition in (after, commit] that remaps, separated by commas."""
    rows = connection.execute(
        f"WITH {DEFINITION} SELECT DISTINCT task_id FROM definition WHERE remaps AND since > ? AND since <= ?",
        [after, commit],
    ).fetchall()
    return ", ".join(str(task_id) for (task_id,) in rows)
