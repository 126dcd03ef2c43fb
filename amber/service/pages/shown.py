"""All pages, and what they have counted in the background."""

from typing import Final

from fastapi import APIRouter

from amber.service.facts.counted import Counted, Making, MakingOf
from amber.service.pages import (
    compare,
    home,
    images,
    log,
    one_slice,
    one_task,
    people,
    plans,
    policy,
    releasing,
    requests,
    run_page,
    runs,
    signing_in,
    slices,
    tasks,
)
from curation.catalog.catalog import Catalog

__all__ = ["ROUTERS", "counted"]

ROUTERS: Final[tuple[APIRouter, ...]] = (
    signing_in.router, home.router, tasks.router, one_task.router, slices.router, one_slice.router, images.router,
    requests.router, policy.router, plans.router, runs.router, run_page.router, compare.router, releasing.router,
    people.router, log.router,
)  # fmt: skip

PARTS: Final[dict[str, Making]] = {
    **home.COUNTED, **tasks.COUNTED, **slices.COUNTED, **plans.COUNTED, **requests.COUNTED, **people.COUNTED,
}  # fmt: skip
"""What is costly, by name: one function each, of a snapshot and the workspace."""

FAMILIES: Final[dict[str, MakingOf]] = {**one_task.COUNTED}
"""The same of one of many things."""


def counted(catalog: Catalog) -> Counted:
    """What is counted of a workspace, from now on."""
    return Counted(catalog, PARTS, FAMILIES)
