"""Changing a plan during a run: a child plan takes over at an exact position; earlier draws do not change.

Positions count from the start of the run. A root plan begins at 0; a child covers the positions from its own start to
the end of its parent, so each position is drawn exactly once.
"""

from dataclasses import dataclass
from pathlib import Path

from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity, os_user
from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.plan.build import Parent, draft_plan
from samplers.plan.plan import Plan
from samplers.plan.sign_off import save_signed
from samplers.policy.policy import Policy

__all__ = ["RunSegment", "draft_child", "replan", "run_segments"]


@dataclass(frozen=True, kw_only=True)
class RunSegment:
    """A part of a run: positions [`start`, `end`) of the run are the first draws of `plan`, which count from 0."""

    start: int
    end: int
    plan: Plan


def replan(
    plan: Plan, position: int, policy: Policy, catalog: Catalog, *, commit: int | None = None, pack: Pack | None = None,
    by: Identity | None = None,
) -> Plan:  # fmt: skip
    """The written child of `plan` that takes over at `position` of the run; an equal plan that exists is opened.

    `commit` (default: the plan's) sets the labels that the child uses, `pack` (default: the plan's) holds its images.
    `policy.without(task)` gives the share of a stopped task to the others. BadInput for a position outside the plan,
    and whatever `make_plan` raises.

    >>> child = replan(plan, 40, Policy.model_validate(plan.header["policy"]), catalog)
    >>> child.start, len(child.draws) == len(plan.draws) - 40
    (40, True)
    """
    child = draft_child(plan, position, policy, catalog, commit=commit, pack=pack)
    return save_signed(catalog, child, plan, policy, by=by or os_user())


def draft_child(
    plan: Plan, position: int, policy: Policy, catalog: Catalog, *, commit: int | None = None, pack: Pack | None = None
) -> Plan:
    """The child plan that `replan` writes, as a draft; raises what `replan` raises, but for missing sign-offs."""
    end = plan.start + len(plan.draws)
    if not plan.start < position < end:
        raise BadInput(
            f"position {position}: plan {plan.hash[:12]} draws {plan.start} to {end}; name a position between them"
        )
    return draft_plan(
        catalog, policy, pack or Pack.open(catalog.home, plan.pack_hash), draws=end - position,
        seed=plan.header["seed"], commit=plan.commit if commit is None else commit,
        parent=Parent(plan=plan.hash, position=position),
    )  # fmt: skip


def run_segments(home: Path, plan: Plan) -> list[RunSegment]:
    """The segments of a run that ends in `plan`, in order: each plan up to the start of its child.

    >>> [(segment.start, segment.end) for segment in run_segments(catalog.home, plan)]
    [(0, 100)]
    """
    segments = [RunSegment(start=plan.start, end=plan.start + len(plan.draws), plan=plan)]
    while parent := segments[0].plan.header["parent"]:
        before = Plan.open(home, parent["plan"])
        segments.insert(0, RunSegment(start=before.start, end=segments[0].start, plan=before))
    return segments
