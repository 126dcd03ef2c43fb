"""Who pays: what every task gets in one plan beside another, and which owners must agree to it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from curation.errors import BadInput
from samplers.plan.plan import Plan
from samplers.plan.rates import PI_UNITS
from samplers.plan.task_outcomes import TaskOutcome, task_outcomes
from samplers.policy.policy import Policy

__all__ = ["Target", "TaskChange", "changes", "refuse_unsigned", "unsigned"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one stratum of a task is of the task's draws, before and after; None where there was no such stratum."""

    stratum: str
    before: float | None
    after: float | None


@dataclass(frozen=True, kw_only=True)
class TaskChange:
    """What one task gets before and after; None where a plan does not draw for it.

    `lowered` says which numbers fall by more than the tolerance, as "ess 120 -> 80"; an `owner` other than who plans
    must agree to them. Effective sample sizes count by draw; that of distinct images where both plans have as many.
    """

    task: str
    owner: str
    before: TaskOutcome | None
    after: TaskOutcome | None
    targets: tuple[Target, ...]
    lowered: tuple[str, ...]


def changes(after: Plan, before: Plan, *, tolerance: float = 0.01) -> list[TaskChange]:
    """A row for every task of either plan, those of `before` first."""
    old, new = ({row.task: row for row in task_outcomes(plan)} for plan in (before, after))
    targets = [_targets(plan) for plan in (before, after)]
    names = dict.fromkeys([*old, *new])
    return [
        TaskChange(
            task=name, owner=(old.get(name) or new[name]).owner, before=old.get(name), after=new.get(name),
            targets=tuple(_beside(*(part.get(name, {}) for part in targets))),
            lowered=tuple(_lowered(old.get(name), new.get(name), (before, after), tolerance)),
        )
        for name in names
    ]  # fmt: skip


def unsigned(rows: Sequence[TaskChange], policy: Policy, before: Plan, *, author: str = "") -> dict[str, list[str]]:
    """Owners whose numbers fall and whose sign-off against `before` is missing, each with what falls.

    Who plans (`author`) needs no sign-off for what he gives up himself.
    """
    missing: dict[str, list[str]] = {}
    for row in rows:
        signed = row.owner in policy.sign_off and before.hash.startswith(policy.sign_off[row.owner])
        if row.lowered and not signed and row.owner != author:
            missing.setdefault(row.owner, []).extend(f"{row.task}: {text}" for text in row.lowered)
    return missing


def refuse_unsigned(after: Plan, before: Plan, policy: Policy, *, author: str = "") -> None:
    """BadInput naming every owner who must sign before `policy` may take the place of the one that made `before`.

    An equal policy needs nobody's: what new labels change is nobody's doing.
    """
    if after.header["policy"] == before.header["policy"]:
        return
    missing = unsigned(changes(after, before, tolerance=policy.tolerance), policy, before, author=author)
    if missing:
        told = "; ".join(f"{owner} ({', '.join(texts)})" for owner, texts in missing.items())
        lines = ", ".join(f'{owner} = "{before.hash[:12]}"' for owner in missing)
        raise BadInput(
            f"plan {after.hash[:12]} against {before.hash[:12]}: lowers what others get without the sign-off of "
            f"{told}; have them add {lines} under [sign_off] in the policy"
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


def _targets(plan: Plan) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for row in plan.rates():
        found.setdefault(row["task"], {})[row["stratum"]] = row["pi"]
    return found


def _beside(before: dict[str, float], after: dict[str, float]) -> Iterator[Target]:
    """Targets stratum by stratum, without those that did not move."""
    for name in dict.fromkeys([*before, *after]):
        was, is_ = before.get(name), after.get(name)
        if was is None or is_ is None or abs(was - is_) > 1 / PI_UNITS:
            yield Target(stratum=name, before=was, after=is_)
