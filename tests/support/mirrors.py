"""Mirrors in FiftyOne, and their documents."""

from typing import Any

from curation.catalog.catalog import Catalog
from curation.fiftyone_app.columns import Overlay
from curation.fiftyone_app.mirror import MirrorResult, mirror

__all__ = ["LOCAL", "bare", "document", "show"]

LOCAL = Overlay()


def show(catalog: Catalog, name: str, scene: Overlay = LOCAL, commit: int | None = None) -> MirrorResult:
    with catalog.read(commit) as now:
        return mirror(now, name, scene=scene, url_for=lambda key, location: None, progress=lambda done, total: None)


def document(dataset: Any, key: str) -> dict[str, Any]:
    found = dataset._sample_collection.find_one({"key": key})
    assert found is not None
    return dict(found)


def bare(value: Any) -> Any:
    """A document without ids, times and random numbers."""
    own = {"_id", "_dataset_id", "_rand", "created_at", "last_modified_at"}
    if isinstance(value, dict):
        return {name: bare(each) for name, each in value.items() if name not in own}
    return [bare(each) for each in value] if isinstance(value, list) else value
