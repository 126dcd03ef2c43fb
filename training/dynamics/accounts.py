"""Accounts of a team: what each task got from plan to plan and from run to run, and who paid for others' changes.

Losses in plans are those that `samplers.plan.sign_off` finds, beyond its tolerance. Losses in figures are shown by a
test (`training.judging.comparison`): p counts all tasks of a pair of runs, and is multiplied by the number of pairs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import numpy as np

from curation.catalog.ownership import Identity
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.requests.answer_seconds import seconds_of_answers
from samplers.plan.plan import Plan
from samplers.plan.plan_list import PlanEntry, list_plans
from samplers.plan.sign_off import TaskChange, changes, tolerance_in_force
from samplers.plan.task_outcomes import TaskOutcome, task_outcomes
from training.judging.comparison import ALPHA, ComparedFigure, compare_slices, measures_of
from training.judging.paired_runs import PairedRuns
from training.run_list import RunEntry, list_runs

__all__ = ["AccountAlarm", "Accounts", "FigureStep", "PlanStep", "accounts"]

DERIVED: Final = "training"
"""Who makes the plans that a training derives from its own."""


@dataclass(frozen=True, kw_only=True)
class PlanStep:
    """One plan: when and by whom it was made, what each task got (`outcomes`), and who signed it off.

    `seconds` is the measured time that people took for the answers to each task since the plan before. `lowered` says
    for each task what fell against that plan.
    """

    plan: str
    at: datetime
    by: str
    policy: str
    commit: int
    draws: int
    signed: tuple[str, ...]
    outcomes: dict[str, TaskOutcome]
    seconds: dict[str, float]
    lowered: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FigureStep:
    """A run beside the run before it on one task, on all labels of test that both predict; p counts all such steps."""

    run: str
    before: str
    plan: str
    by: str
    figure: ComparedFigure
    p: float | None

    @property
    def fell(self) -> bool:
        """Whether it is shown that the figure fell."""
        return self.figure.verdict == "worse" and self.p is not None and self.p <= ALPHA


@dataclass(frozen=True, kw_only=True)
class AccountAlarm:
    """A task whose plan or figure fell under somebody else's change.

    `what` says what fell. `by` made the change, `gained` are the tasks of other owners that got more by it. `signed`
    says whether the owner signed it off, which is not asked for a figure.
    """

    kind: Literal["plan", "figure"]
    task: str
    owner: str
    subject: str
    by: str
    what: str
    gained: tuple[str, ...] = ()
    signed: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """Plans and steps between runs, oldest first, alarms, and why something was left out."""

    owners: dict[str, str]
    plans: tuple[PlanStep, ...]
    figures: tuple[FigureStep, ...]
    alarms: tuple[AccountAlarm, ...]
    notes: tuple[str, ...]


def accounts(now: Snapshot, home: Path, *, count: int = 10) -> Accounts:
    """The accounts over the last `count` plans that people made, and the evaluated runs on them.

    BadInput where there is no plan, or all are withdrawn.
    """
    entries = [entry for entry in list_plans(home, now) if entry.by != DERIVED and not entry.withdrawn][:count]
    if not entries:
        raise BadInput(f"{home}: has no plan to account for; make one with `amber plan`")
    entries = entries[::-1]
    owners = {name: task.owner for name, task in now.tasks().items()}
    team = _Team(owners=owners, members=now.ownership.members())
    plans, lost = _plan_steps(now, home, entries, team)
    figures, notes = _figure_steps(now, home, {entry.plan: entry for entry in entries})
    fell = [_figure_alarm(step, team) for step in figures if step.fell and not team.owns(step.by, step.figure.task)]
    return Accounts(
        owners=owners, plans=tuple(plans), figures=tuple(figures), alarms=(*lost, *fell), notes=tuple(notes)
    )


@dataclass(frozen=True, kw_only=True)
class _Team:
    """The owner of each task, and the members of each owner."""

    owners: Mapping[str, str]
    members: Mapping[str, tuple[Identity, ...]]

    def owns(self, by: str, task: str) -> bool:
        """Whether who made a change is a member of the task's owner."""
        return by != "" and any(str(member) == by for member in self.members.get(self.owners.get(task, ""), ()))

    def is_closed(self, task: str) -> bool:
        """Whether the task's owner has members: nobody else acts for it."""
        return bool(self.members.get(self.owners.get(task, "")))


def _plan_steps(
    now: Snapshot, home: Path, entries: Sequence[PlanEntry], team: _Team
) -> tuple[list[PlanStep], list[AccountAlarm]]:
    plans = [Plan.open(home, entry.plan) for entry in entries]
    tolerance = tolerance_in_force(now)
    steps, alarms = list[PlanStep](), list[AccountAlarm]()
    for number, (entry, plan) in enumerate(zip(entries, plans, strict=True)):
        before = plans[number - 1] if number else None
        rows = changes(plan, before, tolerance=tolerance) if before else []
        signed = _signed(now, entry.plan, before.hash if before else "")
        steps.append(
            PlanStep(
                plan=entry.plan, at=entry.at, by=entry.by, policy=entry.policy, commit=entry.commit, draws=entry.draws,
                signed=signed, outcomes={row.task: row for row in task_outcomes(plan)},
                seconds=_seconds(now, before.commit if before else 0, plan.commit),
                lowered={row.task: row.lowered for row in rows if row.lowered},
            )
        )  # fmt: skip
        alarms += _plan_alarms(entry, rows, signed, team)
    return steps, alarms


def _plan_alarms(
    entry: PlanEntry, rows: Sequence[TaskChange], signed: Sequence[str], team: _Team
) -> Iterator[AccountAlarm]:
    """An alarm for each task that lost by a plan of somebody else. Where its owner has no members, by a plan that gave
    another owner's task more: then it is not its own."""
    for row in rows:
        owner = team.owners.get(row.task, row.owner)
        gained = tuple(other.task for other in rows if _gained(other) and team.owners.get(other.task) != owner)
        if row.lowered and not team.owns(entry.by, row.task) and (team.is_closed(row.task) or gained):
            yield AccountAlarm(
                kind="plan", task=row.task, owner=owner, subject=entry.plan, by=entry.by or "unknown", gained=gained,
                what=", ".join(row.lowered), signed=owner in signed,
            )  # fmt: skip


def _gained(row: TaskChange) -> bool:
    """Whether a task got a larger share or importance."""
    if row.after is None:
        return False
    was = (row.before.share, row.before.importance) if row.before else (0.0, 0.0)
    return row.after.share > was[0] * (1 + 1e-9) or row.after.importance > was[1] * (1 + 1e-9)


def _signed(now: Snapshot, plan: str, before: str) -> tuple[str, ...]:
    acts = now.ownership.acts().to_pylist()
    found = [
        str(act["owner"]) for act in acts if (act["act"], act["subject"], act["before"]) == ("sign_off", plan, before)
    ]
    return tuple(dict.fromkeys(found))


def _seconds(now: Snapshot, after: int, until: int) -> dict[str, float]:
    """The measured seconds of the answers to each task given after the commit `after` (0: from the start on), until
    that of `until`."""
    times = {row["id"]: np.datetime64(row["committed_at"]) for row in now.log().to_pylist()}
    answers = now.requests.answers()
    at, seconds = answers["answered_at"].to_numpy(), seconds_of_answers(answers)
    here = (at <= times.get(until, np.datetime64("now"))) & (seconds > 0)
    if after in times:
        here &= at > times[after]
    ids = answers["task_id"].to_numpy()
    named = {name: float(np.sum(seconds[here & (ids == id_)])) for name, id_ in now.task_ids().items()}
    return {name: total for name, total in named.items() if total}


def _figure_steps(now: Snapshot, home: Path, plans: Mapping[str, PlanEntry]) -> tuple[list[FigureStep], list[str]]:
    """Each task of each evaluated run on one of the plans beside the run before that predicts the task; and why a pair
    cannot be compared."""
    runs = [row for row in list_runs(home, now) if row.commit and row.plan in plans and not row.withdrawn][::-1]
    pairs, steps, notes = _pairs(now, runs), list[FigureStep](), list[str]()
    for first, second, tasks in pairs:
        try:
            both = PairedRuns.load(now, home, first.run, second.run, tasks=tasks)
        except BadInput as error:
            notes.append(f"not compared: {error}")
            continue
        by = _who(first, second, plans)
        for figure in compare_slices(both, measures_of(both), {""}):
            p = None if figure.p is None else min(1.0, figure.p * len(pairs))
            steps.append(FigureStep(run=second.run, before=first.run, plan=second.plan, by=by, figure=figure, p=p))
    return steps, notes


def _pairs(now: Snapshot, runs: Sequence[RunEntry]) -> list[tuple[RunEntry, RunEntry, list[str]]]:
    """Runs to compare, each with the tasks for which the first is the last one before the second that predicts them."""
    last: dict[str, RunEntry] = {}
    found, declared = [], now.tasks().keys()
    for run in runs:
        names = sorted({row["task"] for row in now.runs.slice_errors(run.run).to_pylist()} & declared)
        known = [name for name in names if name in last]
        for before in {last[name].run: last[name] for name in known}.values():
            found.append((before, run, [name for name in known if last[name].run == before.run]))
        last |= dict.fromkeys(names, run)
    return found


def _who(first: RunEntry, second: RunEntry, plans: Mapping[str, PlanEntry]) -> str:
    """Who made the change between two runs: of the plan where it is another one, else of the training."""
    if first.plan != second.plan and plans[second.plan].by:
        return plans[second.plan].by
    return f"user:{second.author}"


def _figure_alarm(step: FigureStep, team: _Team) -> AccountAlarm:
    figure = step.figure
    assert figure.difference is not None
    assert figure.low is not None
    assert figure.high is not None
    scale, unit = (100, "points") if figure.unit == "points" else (1, figure.unit)
    value, low, high = (scale * each for each in (figure.difference, figure.low, figure.high))
    what = f"{figure.measure} {value:+.2f} [{low:+.2f}, {high:+.2f}] {unit} against run {step.before}"
    return AccountAlarm(
        kind="figure", task=figure.task, owner=team.owners.get(figure.task, ""), subject=step.run, by=step.by, what=what
    )
