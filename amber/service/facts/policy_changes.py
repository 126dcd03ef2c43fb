"""A policy that somebody writes: its faults, who gains and who pays by it, and putting it in force."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from amber.service.access import Workspace, batch_of
from amber.service.facts.plans import task_shifts
from amber.service.models.plans import PolicyAsked, PolicyChecked, PolicyFault, PolicySaved, PolicyShift, TaskShift
from amber.service.tokens import Token
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from curation.catalog.snapshot import Snapshot
from curation.errors import AmberError, BadInput
from samplers.pack.pack import Pack
from samplers.plan.build import draft_plan
from samplers.plan.plan import Plan
from samplers.plan.policy_text import ReadPolicy, policy_text, put_in_force, read_policy
from samplers.plan.sign_off import changes, tolerance_in_force
from samplers.policy.policy import Policy

__all__ = ["check_policy", "newest_text", "save_policy", "shares_against"]

MOST_SAMPLES: Final = 50_000
MOST_DRAWS: Final = 200_000
"""Samples of the workspace, and draws of its newest plan, up to which a draft is made while somebody waits."""


def check_policy(workspace: Workspace, text: str) -> PolicyChecked:
    """Whether `text` is a policy, and who gains and who pays by it; nothing is saved."""
    catalog = workspace.catalog
    with catalog.read() as now:
        read = read_policy(text, now)
        base, named = _base(now, catalog.home)
        samples = now.view.rows("SELECT count(*) FROM sample WHERE commit_id <= ?", [now.commit])[0][0]
    faults = [PolicyFault(text=fault.text, lines=list(fault.lines)) for fault in read.problems]
    policy = read.policy
    if policy is None:
        return PolicyChecked(policy="", faults=faults, shifts=[], against=named, drawn=[], not_drawn="")
    drawn, why = _drawn(catalog, policy, int(samples))
    return PolicyChecked(
        policy=policy.sha256, faults=[], shifts=shares_against(policy, base), against=named, drawn=drawn, not_drawn=why
    )


def save_policy(workspace: Workspace, token: Token, asked: PolicyAsked) -> PolicySaved:
    """Put a policy in force for a token; the same batch again changes nothing.

    BadInput for a text that is no policy, and where another policy came in force since the asker read one.
    """
    by = Identity(name=token.name, via="token")
    with workspace.catalog.read() as now:
        policy = _valid(read_policy(asked.text, now))
    message, batch = f"policy in force: {policy.sha256[:12]}", batch_of(token, asked.batch)
    with workspace.catalog.commit(author=token.name, message=message, batch=batch) as change:
        put_in_force(change, policy, by=by, read=asked.read)
    return PolicySaved(policy=policy.sha256, by=str(by), commit=change.id)


def newest_text(now: Snapshot, home: Path) -> str:
    """The text to begin with: of the policy in force, of the newest plan, or equal shares of all tasks; "" without any
    task."""
    base, _ = _base(now, home)
    tasks = now.tasks().values()
    return policy_text(base or Policy.even(tasks)) if base or tasks else ""


def shares_against(policy: Policy, base: Policy | None) -> list[PolicyShift]:
    """What each task gets under two policies, tasks of `policy` first."""
    old = base.task if base else {}
    found = []
    for name in dict.fromkeys([*policy.task, *old]):
        was, is_ = old.get(name), policy.task.get(name)
        parts = {
            "share_before": was.share if was else None, "share": is_.share if is_ else None,
            "importance_before": was.importance if was else None, "importance": is_.importance if is_ else None,
        }  # fmt: skip
        owner = is_.owner if is_ else old[name].owner
        verdict = _verdict(parts, policy.tolerance if base is None else min(policy.tolerance, base.tolerance))
        found.append(PolicyShift.model_validate({"task": name, "owner": owner, **parts, "verdict": verdict}))
    return found


def _verdict(parts: Mapping[str, float | None], tolerance: float) -> str:
    """Whether a task pays: its share or importance falls by more than the tolerance."""
    pairs = [(parts[f"{name}_before"] or 0.0, parts[name] or 0.0) for name in ("share", "importance")]
    if any(is_ < was * (1 - tolerance) for was, is_ in pairs):
        return "pays"
    return "gains" if any(is_ > was * (1 + 1e-9) for was, is_ in pairs) else "as before"


def _valid(read: ReadPolicy) -> Policy:
    if read.policy is None:
        raise BadInput("policy: " + "; ".join(_line(fault.text, fault.lines) for fault in read.problems))
    return read.policy


def _line(text: str, lines: tuple[int, ...]) -> str:
    where = f"line{'s' * (len(lines) > 1)} {', '.join(map(str, lines))}: " if lines else ""
    return where + text


def _base(now: Snapshot, home: Path) -> tuple[Policy | None, str]:
    """The policy to compare with, and what it is: that in force, else that of the newest plan."""
    if stored := now.ownership.policy():
        policy = Policy.model_validate_json(stored)
        return policy, f"the policy in force, {policy.sha256[:12]}"
    newest = Plan.newest_or_none(home)
    return (Policy.model_validate(newest.header["policy"]), f"plan {newest.hash[:12]}") if newest else (None, "")


def _drawn(catalog: Catalog, policy: Policy, samples: int) -> tuple[list[TaskShift], str]:
    """What each task would get from a plan like the newest one, by this policy, and why that is not known ("")."""
    newest = Plan.newest_or_none(catalog.home)
    if newest is None:
        return [], "there is no plan yet to compare with; `amber plan` makes one"
    if samples > MOST_SAMPLES or len(newest.draws) > MOST_DRAWS:
        return [], f"more than {MOST_SAMPLES:,} samples or {MOST_DRAWS:,} draws take too long here; `amber plan` tells"
    try:
        pack = Pack.open(catalog.home, newest.pack_hash)
        draft = draft_plan(
            catalog, policy, pack, draws=len(newest.draws), seed=newest.seed, commit=newest.commit
        )  # fmt: skip
        with catalog.read() as now:
            tolerance, tasks = min(policy.tolerance, tolerance_in_force(now)), now.tasks()
        rows = changes(draft, newest, tolerance=tolerance)
    except AmberError as error:
        return [], str(error)
    return task_shifts(rows, {name: task.owner for name, task in tasks.items()}), ""
