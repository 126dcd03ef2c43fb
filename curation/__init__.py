"""What is known: tasks, samples, labels, slices and label requests."""

from curation.dataset import Dataset
from curation.errors import AmberError, BadInput, Busy, Damaged, Failed, NotFound
from curation.ingest import ingest
from curation.ledger.catalog import Catalog
from curation.slices import Slice
from curation.tasks import Task

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
