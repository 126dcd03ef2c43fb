"""The reference of `dataset.toml`, written from the models that validate it.

`python -m curation.ingestion.reference docs/dataset-toml.md` writes the page; a test holds it equal.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from curation.catalog.tasks import Task
from curation.ingestion.dataset import Dataset, SliceDeclaration, Split, Wheel
from curation.ingestion.readers.declared import Reader
from curation.ingestion.readers.declared_tables import BoxTable, LabelTable, SampleTable

__all__ = ["page"]

_INTRODUCTION = """# dataset.toml

A data set is a folder with a `dataset.toml`. `amber ingest FOLDER` reads it. This page is written from the models that
validate the file; [readers.md](readers.md) explains each reader with examples.

```toml
name = "crossings"
title = "Traffic lights at crossings"
licence = "CC-BY-4.0"
source = "https://example.org/crossings"

[reader]
kind = "coco"
file = "instances.json"
images = "images"
task = "objects"

[[task]]
name = "objects"
kind = "detection"
classes = ["car", "light"]
owner = "ada"

[[slice]]
name = "far_lights"
predicate = "len(list_filter(boxes.objects, lambda b: b.class = 'light' AND b.h < 20)) > 0"
rare = true

[[slice]]
name = "crowded"
predicate = "len(boxes.objects) > 20"

[split]
by = "group"
test = 0.2
validation = 0.1
```

A field without a default is required. `[task]`, `[slice]` and tables of the reader are lists: write them with two
brackets. Every fault is one line that names the field, its value and the rule.
"""

_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("Top of the file", Dataset),
    ("[[task]]", Task),
    ("[[slice]]", SliceDeclaration),
    ("[split]", Split),
    ("[fetch]", Wheel),
)
_TABLES: tuple[type[BaseModel], ...] = (SampleTable, LabelTable, BoxTable)


def page() -> str:
    """The page as Markdown."""
    parts = [_INTRODUCTION]
    parts += [_section(title, model) for title, model in _SECTIONS]
    for model in get_args(get_args(Reader)[0]):
        parts.append(_section(f'[reader] kind = "{_tag(model, "kind")}"', model))
    parts += [_section(f'[[reader.table]] rows = "{_tag(model, "rows")}"', model) for model in _TABLES]
    return "\n".join(parts)


def _section(title: str, model: type[BaseModel]) -> str:
    lines = [f"## {title}", "", _sentence(model.__doc__ or ""), "", "| field | type | default | meaning |"]
    lines += ["|---|---|---|---|", *_rows(model), ""]
    return "\n".join(lines)


def _rows(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name not in ("folder",) or model is not Dataset:
            default = "required" if field.is_required() else f"`{_shown(field)}`"
            cells = (f"`{name}`", _type(field.annotation), default, field.description or _tag_meaning(name))
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _tag_meaning(name: str) -> str:
    return {"kind": "names the reader", "rows": "names the kind of table"}.get(name, "")


def _tag(model: type[BaseModel], name: str) -> str:
    return str(get_args(model.model_fields[name].annotation)[0])


def _sentence(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def _shown(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None:
        return "none"
    if isinstance(default, tuple):
        return f"[{', '.join(_value(part) for part in default)}]"
    return "{}" if default == {} else _value(default)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _type(annotation: Any) -> str:
    """A type in words of TOML."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0])
    if origin is Literal:
        return " or ".join(f"`{_value(value)}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(part) for part in inner if part is not NoneType))
    if origin is tuple and get_origin(inner[0]) is tuple:
        return "table"
    if origin is tuple:
        return "list of tables" if _is_table(inner[0]) else "list of texts"
    if origin is not None and hasattr(origin, "keys"):
        return "table of texts"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(annotation, "table")


def _is_table(annotation: Any) -> bool:
    return any(isinstance(part, type) and issubclass(part, BaseModel) for part in (annotation, *get_args(annotation)))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
