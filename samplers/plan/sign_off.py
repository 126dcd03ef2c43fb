"""Sign-off: what every task gets in two plans, and which owners must accept a loss."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.rows import tabled
from samplers.plan.plan import Plan
from samplers.plan.rates import PI_UNITS
from samplers.plan.strata import shown_stratum
from samplers.plan.task_outcomes import TaskOutcome, task_outcomes
from samplers.plan.waiting import ask_sign_offs
from samplers.policy.policy import Policy

__all__ = [
    "TargetChange", "TaskChange", "changes", "is_even", "missing_sign_offs", "refuse_unsigned", "save_signed",
    "tolerance_in_force",
]  # fmt: skip

Stratum = tuple[str, tuple[str, ...]]
"""The name and the marks of a stratum: a class may have the name of another stratum."""


@dataclass(frozen=True, kw_only=True)
class TargetChange:
    """The fraction of a task's draws that a stratum gets, before and after; None in a plan without the stratum."""

    stratum: str
    before: float | None
    after: float | None


@dataclass(frozen=True, kw_only=True)
class TaskChange:
    """What one task gets before and after; None for a plan that does not draw for it.

    `lowered` lists the figures that fall by more than the tolerance, such as "ess 120 -> 80"; the `owner` must sign
    these off unless a member of that owner makes the plan. The effective sample size is compared per draw; that of
    distinct images only between plans with equally many draws.
    """

    task: str
    owner: str
    before: TaskOutcome | None
    after: TaskOutcome | None
    targets: tuple[TargetChange, ...]
    lowered: tuple[str, ...]


@tabled(TaskChange)
def changes(after: Plan, before: Plan, *, tolerance: float = 0.01) -> list[TaskChange]:
    """One row for each task of either plan, tasks of `before` first. `tolerance` is the relative loss that is ignored.

    >>> [row.lowered for row in changes(plan, plan)]
    [()]
    """
    old, new = ({row.task: row for row in task_outcomes(plan)} for plan in (before, after))
    targets = [_targets(plan) for plan in (before, after)]
    names = dict.fromkeys([*old, *new])
    return [
        TaskChange(
            task=name, owner=(old.get(name) or new[name]).owner, before=old.get(name), after=new.get(name),
            targets=tuple(_target_changes(*(by_task.get(name, {}) for by_task in targets))),
            lowered=tuple(_lowered(old.get(name), new.get(name), (before, after), tolerance)),
        )
        for name in names
    ]  # fmt: skip


def missing_sign_offs(rows: Sequence[TaskChange], signed: Collection[str]) -> dict[str, list[str]]:
    """Owners whose figures fall and who are not among `signed`, each with the figures that fall."""
    missing: dict[str, list[str]] = {}
    for row in rows:
        if row.lowered and row.owner not in signed:
            missing.setdefault(row.owner, []).extend(f"{row.task}: {text}" for text in row.lowered)
    return missing


def save_signed(catalog: Catalog, draft: Plan, before: Plan | None, policy: Policy, *, by: Identity) -> Plan:
    """`draft` of `policy`, written by `by`; raises what `refuse_unsigned` raises, and then writes no plan.

    What was refused is recorded as waiting for its owners (`samplers.plan.waiting`).
    """
    with catalog.read() as now:
        missing = _unsigned(draft, before, policy, now, by=by)
        if before and missing:
            ask_sign_offs(
                catalog.home, now, "replan" if draft.start else "plan", (draft.hash, before.hash, policy.sha256),
                missing, by=by, labels=draft.commit,
            )  # fmt: skip
            raise _refusal(draft, before, policy, missing)
    return draft.save(by=str(by))


def refuse_unsigned(after: Plan, before: Plan | None, policy: Policy, now: Snapshot, *, by: Identity) -> None:
    """BadInput naming every owner who must sign off before `after` may follow `before`.

    A sign-off is an act in the catalog (`amber plan --sign`), bound to both plans and the policy by their hashes. A
    member `by` of an owner needs none for that owner. An unchanged policy needs none, nor a change from equal shares
    to equal shares while no policy is in force: new labels alone change the figures. A catalog whose tasks have one
    owner without members has nobody to ask.
    """
    missing = _unsigned(after, before, policy, now, by=by)
    if before and missing:
        raise _refusal(after, before, policy, missing)


def tolerance_in_force(now: Snapshot) -> float:
    """The relative loss that needs no sign-off: that of the policy in force, else the default. A proposal cannot widen
    it."""
    stored = now.ownership.policy()
    default = float(Policy.model_fields["tolerance"].default)
    return Policy.model_validate_json(stored).tolerance if stored else default


def _unsigned(after: Plan, before: Plan | None, policy: Policy, now: Snapshot, *, by: Identity) -> dict[str, list[str]]:
    """Owners whose sign-off is missing, each with the figures that fall."""
    if before is None or after.hash == before.hash or _same_rules(after, before, now):
        return {}
    owners, members = {name: task.owner for name, task in now.tasks().items()}, now.ownership.members()
    if len(set(owners.values())) < 2 and not members.keys() & set(owners.values()):
        return {}
    rows: list[TaskChange] = changes(after, before, tolerance=min(policy.tolerance, tolerance_in_force(now)))
    rows = [replace(row, owner=owners.get(row.task, row.owner)) for row in rows]
    signed = now.ownership.signed(after.hash, before.hash, policy.sha256)
    signed |= {owner for owner, each in members.items() if by in each}
    return missing_sign_offs(rows, signed)


def _refusal(after: Plan, before: Plan, policy: Policy, missing: Mapping[str, Sequence[str]]) -> BadInput:
    losses = "; ".join(f"{owner} ({', '.join(texts)})" for owner, texts in missing.items())
    return BadInput(
        f"plan {after.hash[:12]} against {before.hash[:12]}: lowers what others get without the sign-off of "
        f"{losses}; have each run the same `amber plan` with --commit {after.commit} --sign OWNER (or sign by the "
        f"service: plan {after.hash}, before {before.hash}, policy {policy.sha256}), then plan again with --commit "
        f"{after.commit}"
    )


def _same_rules(after: Plan, before: Plan, now: Snapshot) -> bool:
    same = after.header["policy"] == before.header["policy"]
    return bool(same or (not now.ownership.policy() and is_even(after.header) and is_even(before.header)))


def is_even(header: Mapping[str, Any]) -> bool:
    """Whether a plan with this header follows the default policy: equal shares of its tasks."""
    try:
        tasks = [Task.model_validate(part["task"]) for part in header["tasks"]]
        return bool(Policy.even(tasks).sampling_rules() == header["policy"])
    except BadInput:  # no task with a head
        return False


def _lowered(
    old: TaskOutcome | None, new: TaskOutcome | None, plans: tuple[Plan, Plan], tolerance: float
) -> Iterator[str]:
    if old is None:
        return
    before, after = (len(plan.draws) for plan in plans)
    judged = ["share", "importance", "ess"] + (["distinct_ess"] if before == after else [])
    for name in judged:
        was, is_ = getattr(old, name), 0.0 if new is None else getattr(new, name)
        scale = before / after if name == "ess" else 1.0
        if is_ * scale < was * (1 - tolerance):
            yield f"{name} {was:.4g} -> {is_ * scale:.4g}"


def _targets(plan: Plan) -> dict[str, dict[Stratum, float]]:
    found: dict[str, dict[Stratum, float]] = {}
    for row, marks in zip(plan.rates(), plan.marks, strict=True):
        found.setdefault(row["task"], {})[row["stratum"], marks] = row["pi"]
    return found


def _target_changes(before: dict[Stratum, float], after: dict[Stratum, float]) -> Iterator[TargetChange]:
    """The targets that changed, stratum by stratum."""
    for stratum in dict.fromkeys([*before, *after]):
        was, is_ = before.get(stratum), after.get(stratum)
        if was is None or is_ is None or abs(was - is_) > 1 / PI_UNITS:
            yield TargetChange(stratum=shown_stratum(*stratum), before=was, after=is_)
