"""FiftyOne, imported where it is needed: that takes seconds, and wants a MongoDB.

Its database is that of `FIFTYONE_DATABASE_URI`, or else a mongod of its own in the workspace, which FiftyOne starts
with the first process and ends with the last one. The extra `browse` brings a mongod where there is a wheel of one.
"""

import importlib
import os
from pathlib import Path
from typing import Any

from curation.errors import BadInput, Failed

__all__ = ["companion", "fiftyone", "prepare_database"]


def prepare_database(home: Path) -> None:
    """Let FiftyOne keep its data in the workspace, ask nothing of the net and tell nobody; before it is imported."""
    folder = home / "browse"
    ours = {
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_DATABASE_VALIDATION": "false",
        "FIFTYONE_DATABASE_DIR": str(folder / "mongo"),
        "FIFTYONE_DEFAULT_DATASET_DIR": str(folder / "datasets"),
    }
    for name, value in ours.items():
        os.environ.setdefault(name, value)


def fiftyone() -> Any:
    """The package, connected to its database; BadInput where it is not installed, Failed where no MongoDB answers."""
    try:
        package = importlib.import_module("fiftyone")
        package.list_datasets()
    except ImportError as error:
        raise BadInput(f"fiftyone: is not installed ({error}); `pip install amber-curation[browse]`") from error
    except Exception as error:  # its own errors, and pymongo's: whatever stands between us and a database
        where = os.environ.get("FIFTYONE_DATABASE_URI", "the mongod of the extra `browse`")
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Failed(
            f"MongoDB: {where} does not answer ({reason}); set FIFTYONE_DATABASE_URI to one of 6.0 or newer"
        ) from error
    return package


def companion(name: str) -> Any:
    """A package that comes with FiftyOne, once that was found to be there."""
    return importlib.import_module(name)
