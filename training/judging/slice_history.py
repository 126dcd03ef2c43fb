"""One slice over all runs: what each reached, and what changed since the run before it."""

from dataclasses import dataclass
from pathlib import Path

from curation.analysis.box_attributes import is_of_attribute
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, Damaged
from curation.rows import tabled
from training.judging.comparison import ComparedFigure, compare_slices, measures_of
from training.judging.paired_runs import PairedRuns
from training.run_list import RunEntry, list_runs, run_before

__all__ = ["HistoryEntry", "slice_history"]


@dataclass(frozen=True, kw_only=True)
class HistoryEntry:
    """A task of a run on one slice: its own metric as recorded by the evaluation, and the change since `before`.

    `value`, `low` and `high` are None without data. `change` compares both runs on the labels that are known now; it is
    None where there is no run before, or where the two cannot be compared (`doubt` says why).
    """

    run: str
    task: str
    metric: str
    n: int
    value: float | None
    low: float | None
    high: float | None
    before: str
    change: ComparedFigure | None
    doubt: str


@tabled(HistoryEntry)
def slice_history(now: Snapshot, home: Path, slice_: str, *, count: int = 20) -> list[HistoryEntry]:
    """Entries on test of the `count` newest evaluated runs, the newest first, for the slice of this name.

    "" is everything. NotFound when the catalog has no such slice.
    """
    if slice_:
        now.slice(slice_)
    runs = [entry for entry in list_runs(home, now) if entry.commit][:count]
    return [row for entry in runs for row in _entries(now, home, slice_, entry)]


def _entries(now: Snapshot, home: Path, slice_: str, entry: RunEntry) -> list[HistoryEntry]:
    before = run_before(home, now, entry.run)
    changes, doubt = _changes(now, home, slice_, entry.run, before)
    rows = now.runs.slice_errors(entry.run).to_pylist()
    return [
        HistoryEntry(
            run=entry.run, before=before, doubt=doubt,
            change=None if is_of_attribute(row["metric"]) else changes.get(row["task"]),
            **{name: row[name] for name in ("task", "metric", "n", "value", "low", "high")},
        )
        for row in rows if row["split"] == "test" and row["slice"] == slice_
    ]  # fmt: skip


def _changes(now: Snapshot, home: Path, slice_: str, run: str, before: str) -> tuple[dict[str, ComparedFigure], str]:
    """The change of each task since the run before, and why there is none."""
    if not before:
        return {}, "no run before"
    try:
        runs = PairedRuns.load(now, home, before, run)
    except (BadInput, Damaged) as error:
        return {}, str(error)
    found = compare_slices(runs, measures_of(runs), [slice_])
    return {part.task: part for part in found}, runs.left_out.get(slice_, "")
