"""The same slice over all runs: what each run was judged to reach, in the order of the evaluations."""

from pathlib import Path
from typing import Any, Final

from curation.catalog.snapshot import Snapshot
from training.imported import beside_of, origin_of
from training.report.formatting import entry_view
from training.report.run_results import RunResults

__all__ = ["runs_view"]

View = dict[str, Any]

RUNS: Final = 8
"""Runs that are shown: the newest."""


def runs_view(now: Snapshot, home: Path, results: RunResults, run: str) -> View:
    """A row for each (task, slice) of this run on test, and a cell for each run, this run last, up to its evaluation.

    There are no rows where no other run has a figure of these tasks.
    """
    newest = {str(row["run"]): int(row["commit_id"]) for row in now.runs().to_pylist()}
    others = sorted(newest.keys() - {run}, key=lambda name: (newest[name], name))
    at = {row["id"]: row["committed_at"] for row in now.log().to_pylist()}
    shown = [*others[-RUNS + 1 :], run]
    figures = {name: _on_test(now, name) for name in shown}
    cells = [
        (row["task"], row["slice"], row["metric"]) for row in results.figures if row["split"] == "test" and row["n"]
    ]
    if not any(figures[name].keys() & set(cells) for name in shown if name != run):
        return {"runs": [], "rows": [], "older": 0}
    rows = [
        {
            "task": task, "slice": slice_, "metric": results.metric(task, slice_, metric),
            "cells": [entry_view(figures[name].get((task, slice_, metric))) for name in shown],
        }
        for task, slice_, metric in cells
    ]  # fmt: skip
    runs = [_column(home, name, run, at[newest[name]]) for name in shown]
    return {"runs": runs, "rows": rows, "older": len(newest) - len(shown)}


def _on_test(now: Snapshot, run: str) -> dict[tuple[str, str, str], View]:
    """The figures of a run on test, by task, slice and metric."""
    rows = now.runs.slice_errors(run).to_pylist()
    return {(row["task"], row["slice"], row["metric"]): row for row in rows if row["split"] == "test"}


def _column(home: Path, name: str, run: str, at: object) -> View:
    model = origin_of(home, name).get("model", "")
    return {"id": name, "at": at, "model": model, "beside": beside_of(home, name), "here": name == run}
