"""What is known: tasks, samples, labels, slices and label requests."""

from curation.catalog.catalog import Catalog
from curation.catalog.slices import Slice
from curation.catalog.tasks import Task
from curation.errors import AmberError, BadInput, Busy, Damaged, Failed, NotFound
from curation.ingest.dataset import Dataset
from curation.ingest.ingest import ingest

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
