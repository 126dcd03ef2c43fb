"""All pages, and what they have counted in the background."""

from typing import Final

from fastapi import APIRouter

from amber.service.pages import home, one_task, signing_in, tasks
from amber.service.pages.counted import Counted, Making, MakingOf
from curation.catalog.catalog import Catalog

__all__ = ["ROUTERS", "counted"]

ROUTERS: Final[tuple[APIRouter, ...]] = (signing_in.router, home.router, tasks.router, one_task.router)

PARTS: Final[dict[str, Making]] = {**home.COUNTED, **tasks.COUNTED}
"""What is costly, by name: one function each, of a snapshot and the workspace."""

FAMILIES: Final[dict[str, MakingOf]] = {**one_task.COUNTED}
"""The same of one of many things."""


def counted(catalog: Catalog) -> Counted:
    """What is counted of a workspace, from now on."""
    return Counted(catalog, PARTS, FAMILIES)
