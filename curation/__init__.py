"""What is known: tasks, samples, labels, slices and label requests."""

import importlib
from typing import TYPE_CHECKING

from curation.errors import AmberError, BadInput, Busy, Damaged, Failed, NotFound

if TYPE_CHECKING:
    from curation.catalog.catalog import Catalog
    from curation.catalog.slices import Slice
    from curation.catalog.tasks import Task
    from curation.ingestion.dataset import Dataset
    from curation.ingestion.ingest import ingest


__all__ = [
    "AmberError",
    "BadInput",
    "Busy",
    "Catalog",
    "Damaged",
    "Dataset",
    "Failed",
    "NotFound",
    "Slice",
    "Task",
    "ingest",
]

_MODULES = {
    "Catalog": "curation.catalog.catalog",
    "Slice": "curation.catalog.slices",
    "Task": "curation.catalog.tasks",
    "Dataset": "curation.ingestion.dataset",
    "ingest": "curation.ingestion.ingest",
}
"""Where each name comes from: it is imported on first use, so that a command loads only what it needs."""


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
