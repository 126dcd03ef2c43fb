"""Runs as of one commit: what they predict, and how well."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from curation.catalog.arrow_query import quoted
from curation.catalog.pages import Page, Position, keyset_page
from curation.catalog.view import View
from curation.files.prefixes import full_name
from curation.files.read_back import check_sha256

__all__ = ["SnapshotRuns"]

FIGURES: Final = """
    SELECT task, slice, split, metric, n, groups, value, low, high FROM slice_error
    WHERE run = ? AND commit_id <= ? QUALIFY commit_id = max(commit_id) OVER ()"""
"""Figures of the newest evaluation of a run."""


class SnapshotRuns:
    """`now.runs`: call it for the list of runs."""

    def __init__(self, view: View) -> None:
        self._view = view

    def __call__(self) -> pa.Table:
        """Registered runs, oldest first: run, plan, predictions (path from the workspace), sha256, commit_id."""
        return self._view.table(
            "SELECT run, plan, predictions, sha256, commit_id FROM run_event WHERE commit_id <= ? ORDER BY commit_id",
            [self._view.commit],
        )

    def page(self, after: Position = (), *, limit: int = 100) -> Page:
        """The next `limit` registered runs after a position, oldest first: the columns of a call."""
        query = "SELECT run, plan, predictions, sha256, commit_id FROM run_event WHERE commit_id <= ?"
        return keyset_page(self._view, query, ("commit_id", "run"), after, limit, [self._view.commit])

    def full_id(self, run: str) -> str:
        """The id of the registered run that is `run`, or the only one that begins so; NotFound for none, or several."""
        names = self()["run"].to_pylist()
        return full_name(run, names, what="run", where="the catalog", listed="amber runs")

    def predictions_file(self, home: Path, run: str) -> Path:
        """The predictions file of a run of the workspace `home`.

        `run` may be the beginning of its id. NotFound when the catalog has no such run;
        Damaged when the file is not the one that the run was judged by.
        """
        found = self._view.rows(
            "SELECT predictions, sha256 FROM run_event WHERE run = ? AND commit_id <= ? ORDER BY commit_id DESC",
            [self.full_id(run), self._view.commit],
        )
        return check_sha256(home / str(found[0][0]), str(found[0][1]), "evaluate the run again")

    def slice_errors(self, run: str) -> pa.Table:
        """Figures of the newest evaluation of a run: task, slice, split, metric, n, groups, value, low, high."""
        return self._view.table(f"{FIGURES} ORDER BY ALL", [run, self._view.commit])

    def slice_errors_page(self, run: str, after: Position = (), *, limit: int = 100) -> Page:
        """The next `limit` of these figures after a position, by task, slice, split and metric."""
        order = ("task", "slice", "split", "metric")
        return keyset_page(self._view, FIGURES, order, after, limit, [run, self._view.commit])

    def on_everything(self) -> pa.Table:
        """Figures of the newest evaluation of every run on all images of test: run, task, metric, n, groups, value,
        low, high; by run, task and metric."""
        query = """
            WITH newest AS (SELECT run, max(commit_id) AS commit_id FROM slice_error WHERE commit_id <= ? GROUP BY run)
            SELECT run, task, metric, n, groups, value, low, high
            FROM (SELECT * FROM slice_error WHERE split = 'test' AND slice = '' AND commit_id <= ?)
            JOIN newest USING (run, commit_id) ORDER BY run, task, metric"""
        return self._view.table(query, 2 * [self._view.commit])

    def figures_of(self, run: str, task: str) -> pa.Table:
        """The figures of the newest evaluation of a run for one task: the columns of `slice_errors`."""
        query = f"SELECT * FROM ({FIGURES}) WHERE task = ? ORDER BY ALL"
        return self._view.table(query, [run, self._view.commit, task])

    def worst_slices(self, run: str, *, fewest: int, widest: float, limit: int = 12) -> pa.Table:
        """The slices of test with the lowest shares, in the newest evaluation of a run: the columns of `slice_errors`.

        Only figures of at least `fewest` images with an interval of at most `widest`; figures in a unit are left out.
        """
        query = f"""
            SELECT * FROM ({FIGURES})
            WHERE split = 'test' AND slice <> '' AND value BETWEEN 0 AND 1 AND n >= ? AND high - low <= ?
                AND metric IN ('accuracy', 'balanced_accuracy', 'map', 'macro_f1')
            ORDER BY value, task, slice, metric LIMIT {int(limit)}"""
        return self._view.table(query, [run, self._view.commit, fewest, widest])

    def predictions(self, task: str, file: str) -> pa.Table:
        """What the Parquet file of a run predicts for one task: sample_id, code, number, confidence; and boxes,
        or class codes and probabilities of several classes, where it predicts any."""
        schema = self._view.rows(f"SELECT name FROM parquet_schema({quoted(file)})")
        more = [("boxes", "boxes"), ("codes", "codes, probabilities")]
        lists = "".join(f", {columns}" for name, columns in more if (name,) in schema)
        return self._view.table(
            f"""SELECT sample_id, code, number, confidence{lists} FROM read_parquet({quoted(file)}) AS predicted
            JOIN sample USING (key) WHERE predicted.task = ? AND commit_id <= ? ORDER BY sample_id""",
            [task, self._view.commit],
        )

    def predictions_of(self, keys: Sequence[str], file: str, tasks: Sequence[str] | None = None) -> pa.Table:
        """What the Parquet file of a run predicts of these tasks, or of all, for the samples with these keys, for a
        few: key, task, code, number, confidence, boxes, codes; boxes and codes are null where the file has none.

        Each task costs a look at all keys of its row groups."""
        if not keys or tasks == []:
            return pa.table({name: pa.array([], pa.string()) for name in ("key", "task")})
        schema = self._view.rows(f"SELECT name FROM parquet_schema({quoted(file)})")
        lists = "".join(f", {name if (name,) in schema else f'NULL AS {name}'}" for name in ("boxes", "codes"))
        mine = "" if tasks is None else f"AND task IN ({', '.join(map(quoted, tasks))})"
        return self._view.table(
            f"""SELECT key, task, code, number, confidence{lists} FROM read_parquet({quoted(file)})
            WHERE key IN ({", ".join(map(quoted, keys))}) AND key BETWEEN {quoted(min(keys))} AND {quoted(max(keys))}
            {mine} ORDER BY key, task"""
        )
