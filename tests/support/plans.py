"""Plans that are written without sign-offs, for tests of what plans hold."""

from typing import Any

from curation.catalog.catalog import Catalog
from samplers.pack.pack import Pack
from samplers.plan.build import draft_plan
from samplers.plan.plan import Plan
from samplers.plan.replan import draft_child
from samplers.policy.policy import Policy

__all__ = ["written_child", "written_plan"]


def written_plan(catalog: Catalog, policy: Policy, pack: Pack, **options: Any) -> Plan:
    """The written plan of `policy`, whoever loses by it."""
    return draft_plan(catalog, policy, pack, **options).save()


def written_child(plan: Plan, position: int, policy: Policy, catalog: Catalog, **options: Any) -> Plan:
    """The written child of `plan` at `position`, whoever loses by it."""
    return draft_child(plan, position, policy, catalog, **options).save()
