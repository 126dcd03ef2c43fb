"""All pages, and what they have counted in the background."""

from typing import Final

from fastapi import APIRouter

from amber.service.pages import images, one_slice, signing_in, slices, tasks
from amber.service.pages.counted import Counted, Making
from curation.catalog.catalog import Catalog

__all__ = ["ROUTERS", "counted"]

ROUTERS: Final[tuple[APIRouter, ...]] = (
    signing_in.router, tasks.router, slices.router, one_slice.router, images.router,
)  # fmt: skip

PARTS: Final[dict[str, Making]] = {**tasks.COUNTED, **slices.COUNTED}
"""What is costly, by name: one function each, of a snapshot and the workspace."""


def counted(catalog: Catalog) -> Counted:
    """What is counted of a workspace, from now on."""
    return Counted(catalog, PARTS)
