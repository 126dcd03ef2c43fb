"""Notices of slices on which a run does worse than the run before it in its line."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amber.comparison_tables import difference_text
from amber.notices.notice import Notice, Team
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, Damaged
from training.judging.comparison import ComparedFigure, compare_slices, measures_of
from training.judging.paired_runs import PairedRuns
from training.run import Run

__all__ = ["regressions"]


def regressions(now: Snapshot, home: Path, team: Team, since: int) -> tuple[list[Notice], list[str]]:
    """A notice for each task of a run evaluated after the commit `since` that is shown to do worse on a slice.

    The run is compared with the one that it continues, or else with the last one evaluated before it, on everything and
    every declared slice of test, with the labels known when the later of the two was evaluated (`compare_slices`: p
    counts all of them). Imported and withdrawn runs are left out. The second value says which runs could not be
    compared.
    """
    found, notes = list[Notice](), list[str]()
    times = {row["id"]: row["committed_at"] for row in now.log().to_pylist()}
    for step in _steps(now, home, since):
        try:
            worse = _worse(now.earlier(step.judged), home, step)
        except (BadInput, Damaged) as error:
            notes.append(f"run {step.run}: not compared with {step.before}: {error}")
            continue
        for task in dict.fromkeys(figure.task for figure in worse):
            figures = [figure for figure in worse if figure.task == task]
            found.append(_notice(step, task, figures, team, at=times[step.commit]))
    return found, notes


@dataclass(frozen=True, kw_only=True)
class _Step:
    """A run evaluated at `commit`, the run before it, and the commit at which both had their last evaluation."""

    run: str
    before: str
    commit: int
    judged: int


def _steps(now: Snapshot, home: Path, since: int) -> Iterator[_Step]:
    """The runs evaluated after `since` with the one before each, in the order of their first evaluations."""
    evaluated = {row["run"]: row["commit_id"] for row in now.runs().to_pylist()}  # in the order of first evaluations
    line = [run for run in evaluated if _is_trained(home, run)] if max(evaluated.values(), default=0) > since else []
    for place, run in enumerate(line):
        if evaluated[run] > since and place:
            parent = Run.open(home, run).parent
            before = parent if parent in line else line[place - 1]
            judged = max(evaluated[run], evaluated[before])
            yield _Step(run=run, before=before, commit=evaluated[run], judged=judged)


def _is_trained(home: Path, run: str) -> bool:
    folder = home / "runs" / run
    return (folder / "run.json").is_file() and not (folder / "withdrawn.json").is_file()


def _worse(then: Snapshot, home: Path, step: _Step) -> list[ComparedFigure]:
    runs = PairedRuns.load(then, home, step.before, step.run)
    return [figure for figure in compare_slices(runs, measures_of(runs)) if figure.verdict == "worse"]


def _notice(step: _Step, task: str, figures: Iterable[ComparedFigure], team: Team, *, at: Any) -> Notice:
    lines = [
        f"{figure.slice or 'everything'}: {figure.measure} {difference_text(figure)} ({figure.n:,} labels of "
        f"{figure.groups:,} groups, p {figure.p:.2g})"
        for figure in figures
    ]
    return Notice(
        kind="regressed", subject=f"{task} got worse in run {step.run} after run {step.before}",
        text="\n".join(lines), link=f"runs/{step.run}", command=f"amber compare {step.before} {step.run}",
        commit=step.commit, at=at, **team.concerned([task]),
    )  # fmt: skip
