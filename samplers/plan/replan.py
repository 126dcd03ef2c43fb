"""Changing a plan in mid-run: a child plan takes over at an exact position, and what was drawn before stays as it was.

Positions are those of the run. A root plan begins at 0; a child holds the positions from where it takes over to the end
of its parent, so that none comes twice and none is left out.
"""

from dataclasses import dataclass
from pathlib import Path

from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.plan.build import Parent, draft_plan
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy

__all__ = ["Leg", "course", "draft_child", "replan"]


@dataclass(frozen=True, kw_only=True)
class Leg:
    """A part of a run: positions [`start`, `end`) are the first of `plan`, whose own draws count from 0."""

    start: int
    end: int
    plan: Plan


def replan(
    plan: Plan, position: int, policy: Policy, catalog: Catalog, *, commit: int | None = None, pack: Pack | None = None
) -> Plan:
    """The child of `plan` that takes over at `position` of the run, written; an equal one is opened.

    `commit` is what is known from there on (default: what the plan knows), `pack` holds its images (default: the
    plan's). A task that stopped hands its share back with `policy.without(task)`. BadInput for a position that does
    not lie inside the plan, and as `make_plan` raises it.
    """
    return draft_child(plan, position, policy, catalog, commit=commit, pack=pack).save()


def draft_child(
    plan: Plan, position: int, policy: Policy, catalog: Catalog, *, commit: int | None = None, pack: Pack | None = None
) -> Plan:
    """What `replan` writes, before it is written."""
    end = plan.start + len(plan.draws)
    if not plan.start < position < end:
        raise BadInput(
            f"position {position}: plan {plan.hash[:12]} draws {plan.start} to {end}, change it between; correct it"
        )
    return draft_plan(
        catalog, policy, pack or Pack.open(catalog.home, plan.pack_hash), draws=end - position,
        seed=plan.header["seed"], commit=plan.commit if commit is None else commit,
        parent=Parent(plan=plan.hash, position=position),
    )  # fmt: skip


def course(home: Path, plan: Plan) -> list[Leg]:
    """The parts of a run that ends in `plan`, in order: each plan up to where its child took over."""
    legs = [Leg(start=plan.start, end=plan.start + len(plan.draws), plan=plan)]
    while parent := legs[0].plan.header["parent"]:
        before = Plan.open(home, parent["plan"])
        legs.insert(0, Leg(start=before.start, end=legs[0].start, plan=before))
    return legs
