"""The commits of a catalog as of one commit: the list, what each of them added, and pages of it by author, task and
slice."""

from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa

from curation.catalog.pages import Page, Position
from curation.catalog.view import View
from curation.errors import NotFound

__all__ = ["ADDED", "SnapshotLog"]

COLUMNS: Final = "id, committed_at, author, message, batch, digest"

ADDED: Final = {
    "samples": "sample", "labels": "label_event", "attributes": "attribute_event", "requests": "request_event",
    "tasks": "task_event", "slices": "slice_event", "runs": "run_event", "acts": "act_event",
    "instructions": "instruction_event", "quarantined": "quarantine_event",
}  # fmt: skip
"""What a commit adds, and the table that its rows are in."""

OF_TASK: Final = ("label_event", "request_event", "task_event", "instruction_event", "assignment_event", "answer_event")
"""Tables whose rows are about one task."""


class SnapshotLog:
    """`now.log`: call it for the list of commits."""

    def __init__(self, view: View) -> None:
        self._view = view

    def __call__(self) -> pa.Table:
        """Commits, newest first: id, committed_at, author, message, batch, digest."""
        query = f"SELECT {COLUMNS} FROM commits WHERE id <= ? ORDER BY id DESC"
        return self._view.table(query, [self._view.commit])

    def commit(self, commit: int) -> dict[str, Any]:
        """One commit; NotFound when there is none with this number."""
        rows = self.of([commit])
        if not rows:
            raise NotFound(f"commit {commit}: the catalog has commits 1 to {self._view.commit}; `amber log` lists them")
        return rows[commit]

    def of(self, commits: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Those of `commits` that there are, by number."""
        listed = ", ".join(str(int(commit)) for commit in commits) or "NULL"
        found = self._view.table(f"SELECT {COLUMNS} FROM commits WHERE id IN ({listed}) AND id <= {self._view.commit}")
        return {row["id"]: row for row in found.to_pylist()}

    def page(
        self, after: Position = (), *, limit: int = 50, author: str = "", task: int | None = None, slice: str = ""
    ) -> Page:
        """The next `limit` commits before a position, newest first: the columns of a call.

        Only those of `author`; those that define the task with the id `task`, add labels, answers or requests of it,
        its instructions or its assignments; and those that declare the slice `slice` or request labels for it.
        """
        newest = min(int(after[0]) - 1, self._view.commit) if after else self._view.commit
        conditions, values = ["id <= ?"], list[int | str]([newest])
        if author:
            conditions.append("author = ?")
            values.append(author)
        if task is not None:
            parts = [f"SELECT commit_id FROM {table} WHERE task_id = {int(task)}" for table in OF_TASK]
            conditions.append(f"id IN ({' UNION '.join(parts)})")
        if slice:
            declared = "SELECT commit_id FROM slice_event WHERE name = ?"
            conditions.append(f"id IN ({declared} UNION SELECT commit_id FROM request_event WHERE slice = ?)")
            values += [slice, slice]
        where = " AND ".join(conditions)
        rows = self._view.table(
            f"SELECT {COLUMNS} FROM commits WHERE {where} ORDER BY id DESC LIMIT {limit + 1}", values
        )
        more, rows = len(rows) > limit, rows.slice(0, limit)
        return Page(rows=rows, next=(rows["id"][limit - 1].as_py(),) if more else None)

    def added(self, commits: Iterable[int]) -> dict[int, dict[str, int]]:
        """How many rows of each kind of `ADDED` each of `commits` added; without kinds that it added none of."""
        wanted = sorted({int(commit) for commit in commits})
        found: dict[int, dict[str, int]] = {commit: {} for commit in wanted}
        if not wanted:
            return found
        where = f"commit_id BETWEEN {wanted[0]} AND {wanted[-1]} AND commit_id IN ({', '.join(map(str, wanted))})"
        parts = [
            f"SELECT '{kind}' AS kind, commit_id, count(*) FROM {table} WHERE {where} GROUP BY commit_id"
            for kind, table in ADDED.items()
        ]
        for kind, commit, count in self._view.rows(" UNION ALL ".join(parts)):
            found[int(commit)][str(kind)] = int(count)
        return {commit: {kind: counts[kind] for kind in ADDED if kind in counts} for commit, counts in found.items()}

    def labelled(self, commit: int) -> set[int]:
        """The ids of the tasks whose labels or definition a commit touched."""
        parts = [
            f"SELECT task_id FROM {name} WHERE commit_id = {int(commit)}" for name in ("label_event", "task_event")
        ]
        return {int(id_) for (id_,) in self._view.rows(" UNION ".join(parts))}

    def authors(self) -> list[str]:
        """Everybody who committed, by name."""
        query = "SELECT DISTINCT author FROM commits WHERE id <= ? ORDER BY author"
        return [str(name) for (name,) in self._view.rows(query, [self._view.commit])]
