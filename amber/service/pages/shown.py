"""All pages, and what they have counted in the background."""

from typing import Final

from fastapi import APIRouter

from amber.service.pages import people, plans, policy, requests, signing_in, tasks
from amber.service.pages.counted import Counted, Making
from curation.catalog.catalog import Catalog

__all__ = ["ROUTERS", "counted"]

ROUTERS: Final[tuple[APIRouter, ...]] = (
    signing_in.router, tasks.router, policy.router, plans.router, requests.router, people.router,
)  # fmt: skip

PARTS: Final[dict[str, Making]] = {**tasks.COUNTED, **plans.COUNTED, **requests.COUNTED, **people.COUNTED}
"""What is costly, by name: one function each, of a snapshot and the workspace."""


def counted(catalog: Catalog) -> Counted:
    """What is counted of a workspace, from now on."""
    return Counted(catalog, PARTS)
