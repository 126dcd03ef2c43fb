"""Sign-off: what every task gets in two plans, and which owners must accept a loss."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from curation.errors import BadInput
from samplers.plan.plan import Plan
from samplers.plan.rates import PI_UNITS
from samplers.plan.task_outcomes import TaskOutcome, task_outcomes
from samplers.policy.policy import Policy

__all__ = ["TargetChange", "TaskChange", "changes", "missing_sign_offs", "refuse_unsigned"]

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
    these off unless the owner makes the plan. The effective sample size is compared per draw; that of distinct images
    only between plans with equally many draws.
    """

    task: str
    owner: str
    before: TaskOutcome | None
    after: TaskOutcome | None
    targets: tuple[TargetChange, ...]
    lowered: tuple[str, ...]


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


def missing_sign_offs(
    rows: Sequence[TaskChange], policy: Policy, before: Plan, *, author: str = ""
) -> dict[str, list[str]]:
    """Owners whose figures fall and whose sign-off against `before` is missing, each with the figures that fall.

    The author of the plan needs no sign-off for a task of their own.
    """
    missing: dict[str, list[str]] = {}
    for row in rows:
        signed = row.owner in policy.sign_off and before.hash.startswith(policy.sign_off[row.owner])
        if row.lowered and not signed and row.owner != author:
            missing.setdefault(row.owner, []).extend(f"{row.task}: {text}" for text in row.lowered)
    return missing


def refuse_unsigned(after: Plan, before: Plan, policy: Policy, *, author: str = "") -> None:
    """BadInput naming every owner who must sign off before `policy` may replace the policy of `before`.

    An unchanged policy needs no sign-off: new labels alone change the figures.
    """
    if after.header["policy"] == before.header["policy"]:
        return
    missing = missing_sign_offs(changes(after, before, tolerance=policy.tolerance), policy, before, author=author)
    if missing:
        losses = "; ".join(f"{owner} ({', '.join(texts)})" for owner, texts in missing.items())
        lines = ", ".join(f'{owner} = "{before.hash[:12]}"' for owner in missing)
        raise BadInput(
            f"plan {after.hash[:12]} against {before.hash[:12]}: lowers what others get without the sign-off of "
            f"{losses}; have them add {lines} under [sign_off] in the policy"
        )


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
            yield TargetChange(stratum=stratum[0], before=was, after=is_)
