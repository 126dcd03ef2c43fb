"""TOML files that people write, validated by pydantic: a model, or a dataclass."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from curation.errors import BadInput, NotFound

__all__ = ["parse", "read_toml", "toml_text", "toml_value"]

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


def toml_text(data: Mapping[str, Any], prefix: str = "") -> str:
    """Words as TOML: texts, numbers, flags, lists and tables of these. What is None is left out; a list holds no table.

    >>> print(toml_text({"trunk": "small", "size": (80, 128), "task": {"car": {"rate": 0.5}}}), end="")
    trunk = "small"
    size = [80, 128]
    <BLANKLINE>
    [task.car]
    rate = 0.5
    """
    plain = {name: value for name, value in data.items() if not isinstance(value, Mapping) and value is not None}
    text = "".join(f"{_toml_key(name)} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in plain.items())
    if prefix and (plain or not data):
        text = f"\n[{prefix}]\n{text}"
    for name, value in data.items():
        if isinstance(value, Mapping):
            text += toml_text(value, f"{prefix}.{_toml_key(name)}" if prefix else _toml_key(name))
    return text


def _toml_key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False)


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
    if problem["type"] == "union_tag_not_found":
        return f"{path}.{_discriminator(problem)} is missing"
    if problem["type"] == "union_tag_invalid":
        field, known = f"{path}.{_discriminator(problem)}", problem["ctx"]["expected_tags"].replace("'", "")
        return f"{field} = {problem['ctx']['tag']!r}: must be one of {known}"
    return f"{path} = {_shown(problem['input'])}: {problem['msg'].removeprefix('Value error, ')}"


def _discriminator(problem: Any) -> str:
    """The field by which pydantic tells the members of a union apart."""
    return str(problem["ctx"]["discriminator"]).strip("'")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
