"""Label requests as of one commit, and the answers that people gave to them elsewhere."""

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from curation.catalog.pages import Page, Position, keyset_page
from curation.catalog.task_definitions import definition_at
from curation.catalog.view import View

__all__ = ["SnapshotRequests"]

CURRENT: Final = """
    FROM request_event JOIN sample USING (sample_id)
    JOIN (SELECT DISTINCT task_id, name FROM task_event) USING (task_id)
    WHERE request_event.commit_id <= $commit
    QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY request_event.commit_id DESC, state = 'open') = 1"""
"""The current state of each request; one that was opened and closed in the same commit is closed."""


MOMENT: Final = "2 * commit_id + CAST(state <> 'open' AS BIGINT)"
"""The order of the events of a request."""

ORDER: Final = ("priority", "request_id")
"""The order of the queue."""

AHEAD: Final = 3
"""How many times the requests of a page are looked at before all are."""


class SnapshotRequests:
    """`now.requests`: call it for the requests themselves."""

    def __init__(self, view: View) -> None:
        self._view = view

    def __call__(self, state: str | None = None) -> pa.Table:
        """Label requests in their current state, by id, with the sample's key and the task's name; only those in
        `state` ("open", "answered" or "withdrawn") if it is given."""
        return self._view.table(
            f"""SELECT request_event.* EXCLUDE (commit_id), sample.key AS key, name AS task
            {CURRENT} AND ($state IS NULL OR state = $state) ORDER BY request_id""",
            {"commit": self._view.commit, "state": state},
        )

    def draws(self, task: str) -> pa.Table:
        """Label requests for one task that were not withdrawn, by id: request_id, sample_id, arm, slice, reason, run,
        state, propensity, and the commit that `opened` each."""
        return self._view.table(
            """WITH mine AS (
                SELECT * FROM request_event JOIN (SELECT DISTINCT task_id, name FROM task_event) USING (task_id)
                WHERE name = $task AND commit_id <= $commit)
            SELECT request_id, sample_id, arm, slice, reason, run, state, propensity, opened
            FROM (SELECT * FROM mine SEMI JOIN sample USING (sample_id)
                QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY commit_id DESC, state = 'open') = 1)
            JOIN (SELECT request_id, min(commit_id) AS opened FROM mine GROUP BY ALL) USING (request_id)
            WHERE state <> 'withdrawn' ORDER BY request_id""",
            {"commit": self._view.commit, "task": task},
        )

    def page(
        self, state: str, after: Position = (), *, limit: int = 100, task: str = "", slice: str = "", arm: str = ""
    ) -> Page:
        """The next `limit` requests in `state` after a position, by priority and id: the columns of a call; only those
        of a task, of a slice and of an arm where these are given. NotFound for an unknown task."""
        view = self._view
        wanted = {"slice": slice, "arm": arm, "task_id": definition_at(view, task).task_id if task else ""}
        chosen = {name: value for name, value in wanted.items() if value != ""}
        filters = f"state = ? {''.join(f'AND {name} = ? ' for name in chosen)}"
        values = [state, *chosen.values()]
        page = self._first_page(filters, values, after, limit) or keyset_page(
            view,
            f"""SELECT * EXCLUDE (commit_id) FROM request_event SEMI JOIN (
                SELECT request_id, max({MOMENT}) AS moment FROM request_event WHERE commit_id <= ? GROUP BY request_id)
                AS newest ON request_event.request_id = newest.request_id AND {MOMENT} = moment
            WHERE {filters}""",
            ORDER, after, limit, [view.commit, *values],
        )  # fmt: skip
        asked = ", ".join(map(str, page.rows["sample_id"].to_pylist())) or "NULL"
        rows = view.table(
            f"""SELECT page.*, key, name AS task FROM page
            JOIN (SELECT sample_id, key FROM sample WHERE sample_id IN ({asked}) AND commit_id <= {view.commit})
            USING (sample_id)
            JOIN (SELECT DISTINCT task_id, name FROM task_event) USING (task_id) ORDER BY priority, request_id""",
            page=page.rows,
        )
        return Page(rows=rows, next=page.next)

    def _first_page(self, filters: str, values: Sequence[Any], after: Position, limit: int) -> Page | None:
        """The page, from the events that come first, without a look at all others; None where too few of these are the
        newest of their requests."""
        view, most = self._view, AHEAD * limit
        query = f"SELECT *, {MOMENT} AS moment FROM request_event WHERE commit_id <= ? AND {filters}"
        ahead = keyset_page(view, query, ORDER, after, most, [view.commit, *values])
        listed = ", ".join(map(str, ahead.rows["request_id"].to_pylist())) or "NULL"
        newest = view.table(
            f"""SELECT request_id, max({MOMENT}) AS moment FROM request_event
            WHERE request_id IN ({listed}) AND commit_id <= ? GROUP BY request_id""",
            [view.commit],
        )
        found = view.table(
            """SELECT * EXCLUDE (commit_id, moment) FROM ahead SEMI JOIN newest USING (request_id, moment)
            ORDER BY priority, request_id""",
            ahead=ahead.rows, newest=newest,
        )  # fmt: skip
        if ahead.next and len(found) <= limit:
            return None
        rows = found.slice(0, limit)
        last = rows.slice(limit - 1).select(list(ORDER)).to_pylist() if len(found) > limit else []
        return Page(rows=rows, next=tuple(last[0].values()) if last else None)

    def moments(self) -> pa.Table:
        """Every request with the commit that opened it and the one that last changed it: task, state, cost, opened,
        moved."""
        return self._view.table(
            """SELECT name AS task, state, cost, opened, moved FROM (
                SELECT task_id, min(commit_id) AS opened, max(commit_id) AS moved,
                    arg_max(state, 2 * commit_id + CAST(state <> 'open' AS BIGINT)) AS state,
                    arg_max(cost, commit_id) AS cost
                FROM request_event WHERE commit_id <= ? GROUP BY request_id, task_id)
            JOIN (SELECT DISTINCT task_id, name FROM task_event) USING (task_id) ORDER BY ALL""",
            [self._view.commit],
        )

    def of_sample(self, sample_id: int) -> pa.Table:
        """The requests of one sample in their current state, the newest first: request_id, task, state, arm, slice,
        reason, run, priority, propensity, cost, and commit and time that opened and last changed each: opened,
        opened_at, changed, changed_at."""
        return self._view.table(
            """WITH mine AS (SELECT * FROM request_event WHERE sample_id = $sample AND commit_id <= $commit),
            newest AS (SELECT * FROM mine
                QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY commit_id DESC, state = 'open') = 1),
            first AS (SELECT request_id, min(commit_id) AS opened FROM mine GROUP BY request_id)
            SELECT request_id, name AS task, state, arm, slice, reason, run, priority, propensity, cost, opened,
                one.committed_at AS opened_at, commit_id AS changed, other.committed_at AS changed_at
            FROM newest JOIN first USING (request_id)
            JOIN (SELECT DISTINCT task_id, name FROM task_event) USING (task_id)
            JOIN commits AS one ON one.id = opened JOIN commits AS other ON other.id = commit_id
            ORDER BY request_id DESC""",
            {"sample": sample_id, "commit": self._view.commit},
        )

    def answered_by(self, commits: Sequence[int]) -> pa.Table:
        """Requests that these commits answered: request_id, sample_id, key, task, arm, slice."""
        return self._view.table(
            """SELECT request_id, sample_id, sample.key AS key, name AS task, arm, slice
            FROM request_event JOIN sample USING (sample_id)
            JOIN (SELECT DISTINCT task_id, name FROM task_event) USING (task_id)
            WHERE state = 'answered' AND list_contains($commits, request_event.commit_id) ORDER BY request_id""",
            {"commits": list(commits)},
        )

    def opened_by(self, commit: int) -> int:
        """How many requests this commit made."""
        query = """SELECT count(*) FROM (
            SELECT request_id FROM request_event GROUP BY request_id HAVING min(commit_id) = ?)"""
        return int(self._view.rows(query, [commit])[0][0])

    def open_counts(self) -> pa.Table:
        """How many requests of a task were open after each commit that changed one, by task and commit: task,
        commit_id, open."""
        return self._view.table(
            """WITH states AS (
                SELECT request_id, task_id, commit_id, state = 'open' AS is_open FROM request_event WHERE commit_id <= ?
                QUALIFY row_number() OVER (PARTITION BY request_id, commit_id ORDER BY state = 'open') = 1),
            moves AS (
                SELECT task_id, commit_id, CAST(is_open AS BIGINT) - coalesce(CAST(lag(is_open) OVER (
                    PARTITION BY request_id ORDER BY commit_id) AS BIGINT), 0) AS moved FROM states),
            totals AS (SELECT task_id, commit_id, sum(moved) AS moved FROM moves GROUP BY ALL)
            SELECT name AS task, commit_id,
                CAST(sum(moved) OVER (PARTITION BY task_id ORDER BY commit_id) AS BIGINT) AS open
            FROM totals JOIN (SELECT DISTINCT task_id, name FROM task_event) USING (task_id)
            ORDER BY task_id, commit_id""",
            [self._view.commit],
        )

    def answers(self) -> pa.Table:
        """The newest outcome of each answer that people gave elsewhere: sample_id, task_id, annotator, server, project,
        item, annotation, outcome, seconds, answered_at."""
        return self._view.table(
            "SELECT * EXCLUDE (commit_id) FROM answer_event WHERE commit_id <= ? QUALIFY row_number() OVER "
            "(PARTITION BY server, project, annotation, task_id ORDER BY commit_id DESC) = 1 "
            "ORDER BY answered_at, annotation, task_id",
            [self._view.commit],
        )
