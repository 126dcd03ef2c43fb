"""TOML files that people write, validated by pydantic: a model, or a dataclass."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from curation.errors import BadInput, NotFound

__all__ = ["parse", "read_toml", "toml_value"]

Model = TypeVar("Model")


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; BadInput names the line of a syntax error, NotFound a missing file."""
    try:
        return toml_value(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFound(f"{path}: no such file; check the path") from error
    except ValueError as error:
        raise BadInput(f"{path}: not valid TOML ({error}); fix the file") from error


def toml_value(text: str) -> dict[str, Any]:
    """The content of a TOML text; ValueError for anything else, deep nesting too.

    >>> toml_value("a = 1")
    {'a': 1}
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("is nested too deep") from None


def parse(model: type[Model], data: dict[str, Any], *, where: str) -> Model:
    """`data` as a `model`; BadInput is one line with the key, value and rule of each problem, after `where`."""
    try:
        return TypeAdapter(model).validate_python(data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        inner = {each["loc"][:end] for each in errors for end in range(1, len(each["loc"]))}  # what follows from others
        problems = [_problem(each) for each in errors if each["loc"] not in inner]
        raise BadInput(f"{where}: {'; '.join(problems)}; fix the file") from None


def _problem(problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"]) or "file"
    if problem["type"] == "missing":
        return f"{path} is missing"
    return f"{path} = {_shown(problem['input'])}: {problem['msg'].removeprefix('Value error, ')}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
