"""What is known about policies, plans and sign-offs, for the routes and for the pages."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from amber.service.models.plans import (
    ExposureLine,
    OutcomeRow,
    PlanFacts,
    PlanRow,
    PlanRun,
    PolicyFacts,
    PolicyPart,
    SignedRow,
    TaskShift,
    WaitingRow,
)
from curation.catalog.ownership import Identity
from curation.catalog.snapshot import Snapshot
from curation.errors import NotFound
from curation.files.prefixes import full_name
from samplers.plan.plan import Plan
from samplers.plan.plan_list import PlanEntry, list_plans
from samplers.plan.policy_text import policy_text
from samplers.plan.sign_off import TaskChange, changes, tolerance_in_force
from samplers.plan.task_outcomes import task_outcomes
from samplers.plan.waiting import waiting_sign_offs
from samplers.policy.policy import Policy
from training.run import Run
from training.run_list import trained_here

__all__ = [
    "may_sign", "outcomes_of", "plan_before", "plan_facts", "plan_rows", "policy_facts", "policy_parts", "shifts_of",
    "signed_rows", "task_shifts", "waiting_rows",
]  # fmt: skip

KEPT: Final = 128
"""Plans whose figures are kept in memory: a plan never changes."""


def policy_facts(now: Snapshot) -> PolicyFacts:
    """The policy in force; without a hash and a text while none is."""
    stored = now.ownership.policy()
    if not stored:
        return PolicyFacts(policy="", by="", commit=0, at="", text="", tasks=[])
    policy = Policy.model_validate_json(stored)
    acts = [act for act in now.ownership.acts().to_pylist() if (act["act"], act["policy"]) == ("policy", policy.sha256)]
    by, commit = (f"{acts[-1]['via']}:{acts[-1]['member']}", int(acts[-1]["commit_id"])) if acts else ("", 0)
    return PolicyFacts(
        policy=policy.sha256, by=by, commit=commit, at=_time_of(now, commit), text=policy_text(policy),
        tasks=policy_parts(policy),
    )  # fmt: skip


def policy_parts(policy: Policy) -> list[PolicyPart]:
    """What each task of a policy gets."""
    return [
        PolicyPart(
            task=name, owner=part.owner, share=part.share, importance=part.importance, rule=part.rule,
            boosts=", ".join(f"{slice_} x {_factors(value)}" for slice_, value in part.boost.items()),
        )
        for name, part in policy.task.items()
    ]  # fmt: skip


def waiting_rows(home: Path, now: Snapshot) -> list[WaitingRow]:
    """What waits for owners, one row for each owner whose sign-off is missing, the oldest first."""
    members = now.ownership.members()
    return [
        WaitingRow(
            what=row.what, owner=owner, losses=list(texts), subject=row.subject, before=row.before, policy=row.policy,
            by=row.by, at=row.at.isoformat(" ", "minutes"), labels=row.labels,
            members=[str(each) for each in members.get(owner, ())],
        )
        for row in waiting_sign_offs(home, now) for owner, texts in row.losses.items()
    ]  # fmt: skip


def may_sign(row: WaitingRow, who: Identity) -> bool:
    """Whether the catalog lets `who` sign a row off: a member of its owner, or anybody while that has no members."""
    return not row.members or str(who) in row.members


def signed_rows(home: Path, now: Snapshot, plan: str = "") -> list[SignedRow]:
    """The sign-offs of the ledger (of one plan where it is named), the newest first."""
    acts = [act for act in now.ownership.acts().to_pylist() if act["act"] == "sign_off"]
    return [
        SignedRow(
            owner=act["owner"], by=f"{act['via']}:{act['member']}", subject=act["subject"], before=act["before"],
            policy=act["policy"], commit=act["commit_id"],
            made=(home / "plans" / act["subject"] / "plan.json").is_file(),
        )
        for act in reversed(acts) if plan in ("", act["subject"])
    ]  # fmt: skip


def plan_rows(home: Path, now: Snapshot) -> list[PlanRow]:
    """The plans of a workspace, the newest first."""
    return [_row(entry) for entry in list_plans(home, now)]


def plan_facts(home: Path, now: Snapshot, prefix: str, against: str = "") -> PlanFacts:
    """A plan whose hash begins with `prefix`, beside the plan `against` (default: its parent, or the plan before).

    NotFound where none or several begin so; of a withdrawn plan only its row is known.
    """
    rows = plan_rows(home, now)
    name = _named(prefix, rows, home)
    row = next(each for each in rows if each.plan == name)
    signed = signed_rows(home, now, name)
    if row.withdrawn:
        return PlanFacts(row=row, outcomes=[], against="", shifts=[], signed=signed, runs=[])
    before = _named(against, rows, home) if against else plan_before(rows, row)
    shifts = shifts_of(home, now, name, before) if before and before != name else []
    return PlanFacts(
        row=row, outcomes=outcomes_of(home, name), against=before, shifts=shifts, signed=signed,
        runs=_runs(home, now, name),
    )  # fmt: skip


def plan_before(rows: Sequence[PlanRow], row: PlanRow) -> str:
    """The plan to compare a plan with: its parent, else the one that people made before it; "" where there is none."""
    usable = [each for each in rows if not each.withdrawn]
    if row.parent:
        return row.parent if any(each.plan == row.parent for each in usable) else ""
    older = rows[rows.index(row) + 1 :]
    return next((each.plan for each in older if not each.withdrawn and not each.derived and not each.parent), "")


def outcomes_of(home: Path, plan: str) -> list[OutcomeRow]:
    """What each task gets from a plan that is not withdrawn."""
    return [OutcomeRow.model_validate(asdict(row)) for row in _outcomes(home, plan)]


def shifts_of(home: Path, now: Snapshot, plan: str, before: str) -> list[TaskShift]:
    """What each task gets from a plan and from the plan `before`, neither of them withdrawn."""
    owners = {name: task.owner for name, task in now.tasks().items()}
    return task_shifts(_changes(home, plan, before, tolerance_in_force(now)), owners)


def task_shifts(rows: Sequence[TaskChange], owners: Mapping[str, str]) -> list[TaskShift]:
    """Changes of what tasks get, as rows; the owners are those of today."""
    return [
        TaskShift(
            task=row.task, owner=owners.get(row.task, row.owner), lowered=list(row.lowered),
            share_before=row.before.share if row.before else None, share=row.after.share if row.after else None,
            ess_before=row.before.ess if row.before else None, ess=row.after.ess if row.after else None,
        )
        for row in rows
    ]  # fmt: skip


@lru_cache(maxsize=KEPT)
def _outcomes(home: Path, plan: str) -> tuple[Any, ...]:
    return tuple(task_outcomes(Plan.open(home, plan)))


@lru_cache(maxsize=KEPT)
def _changes(home: Path, plan: str, before: str, tolerance: float) -> tuple[TaskChange, ...]:
    return tuple(changes(Plan.open(home, plan), Plan.open(home, before), tolerance=tolerance))


def _runs(home: Path, now: Snapshot, plan: str) -> list[PlanRun]:
    """The runs that were trained on a plan."""
    names = list(dict.fromkeys(row["run"] for row in now.runs().to_pylist() if row["plan"] == plan))
    found = [Run.open(home, name) for name in names if trained_here(home, name) and _is_there(home, name)]
    fields = ExposureLine.model_fields
    return [
        PlanRun(
            run=run.id, alarm=run.alarm,
            exposure=[
                ExposureLine.model_validate({name: row[name] for name in fields}) for row in run.exposure(home)
                if row["kind"] != "rank"
            ],
        )
        for run in found
    ]  # fmt: skip


def _is_there(home: Path, run: str) -> bool:
    return (home / "runs" / run / "run.json").is_file()


def _named(prefix: str, rows: Sequence[PlanRow], home: Path) -> str:
    if not prefix:
        raise NotFound("plan: has no name; /api/plan-list lists them")
    return full_name(prefix, [row.plan for row in rows], what="plan", where=home.name, listed="amber plan --list")


def _row(entry: PlanEntry) -> PlanRow:
    fields = asdict(entry)
    return PlanRow.model_validate({**fields, "at": entry.at.isoformat(" ", "minutes"), "tasks": list(entry.tasks)})


def _time_of(now: Snapshot, commit: int) -> str:
    """The time of a commit to the minute, in UTC; "" for none."""
    rows = now.view.rows("SELECT committed_at FROM commits WHERE id = ?", [commit])
    return str(rows[0][0].isoformat(" ", "minutes")) if rows else ""


def _factors(value: float | tuple[float, ...]) -> str:
    return " then ".join(f"{each:g}" for each in (value if isinstance(value, tuple) else (value,)))
