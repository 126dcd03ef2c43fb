"""FiftyOne's export format (FiftyOneDataset): samples.json, or a folder of such files, with the images in data/.

FiftyOne itself would need a MongoDB, half a minute, and its own copy of the data.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from curation.catalog.tasks import Task
from curation.errors import BadInput, NotFound
from curation.files.locations import is_url
from curation.images.decoding import sizes
from curation.ingestion.readers.box_forms import Classes, box, scaled
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.content_builder import ContentBuilder, Value, plain_name
from curation.ingestion.readers.declared import FiftyOne
from curation.ingestion.readers.findings import BadEntry, Findings
from curation.ingestion.readers.image_paths import SPLITS, located
from curation.ingestion.readers.json_files import read_document
from curation.ingestion.readers.values import value_of

__all__ = ["read_fiftyone"]

_OWN = {"id", "filepath", "tags", "metadata", "created_at", "last_modified_at"}
_WORDS = {"train": "train", "validation": "validation", "test": "test", **SPLITS}

Size = tuple[int, int]
Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _File:
    samples: Annotated[list[Fields], Field(min_length=1)]


_FORM = TypeAdapter(_File)
_SINGLE: TypeAdapter[Fields] = TypeAdapter(Fields)


def read_fiftyone(
    folder: Path, declared: FiftyOne, *, dataset: str, tasks: Sequence[Task], findings: Findings
) -> Content:
    """Read the export in `folder`/`declared.folder`; `tasks` are the data set's.

    `fields` names the fields that are labels: Classification, Classifications, Detections (converted to pixels),
    Regression, or a plain value; an empty field is unknown. Other plain fields are attributes. Tags become flags named
    tag_NAME, except train, validation and test, which give the split. Keys are `dataset`/filepath without data/ and
    extension. NotFound or BadInput name the file, the sample and the field.
    """
    root = (folder / declared.folder).absolute()
    images = declared.images if is_url(declared.images) else str(folder.absolute() / (declared.images or root))
    found: list[tuple[str, Fields, str]] = []
    for origin, fields in _samples(root, findings):
        with findings.entry():
            found.append((origin, fields, located(images, _path(fields, origin), origin)))
    tags = sorted({tag for _, fields, _ in found for tag in fields.get("tags") or [] if tag.lower() not in _WORDS})
    measured = _sizes([location for *_, location in found], [fields for _, fields, _ in found])
    builder = ContentBuilder(dataset, annotator=declared.annotator, unknown=declared.unknown, findings=findings)
    by_name = {task.name: task for task in tasks}
    for (origin, fields, location), size in zip(found, measured, strict=True):
        with findings.entry():
            name = _path(fields, origin).replace("\\", "/").removeprefix("data/")
            key = builder.add_image(name, location, _attributes(fields, declared, tags), origin, root=str(images))
            _add_labels(builder, key, origin, fields, by_name, size, declared, findings)
    for field in declared.fields:
        if not any(field in fields for _, fields, _ in found):
            findings.note(f"no sample has the field {field!r}; fields are {', '.join(_names(found))}")
    return builder.content(held_back=declared.held_back)


def _add_labels(
    builder: ContentBuilder, key: str, origin: str, fields: Fields, tasks: Mapping[str, Task], size: Size | None,
    declared: FiftyOne, findings: Findings,
) -> None:  # fmt: skip
    for field, task in declared.fields.items():
        value = _value(fields.get(field))
        if value is not None:
            with findings.entry():
                _label(builder, key, f"{origin} {field}", value, tasks[task], size, declared)


def _names(found: Sequence[tuple[str, Fields, str]]) -> list[str]:
    names = {name for _, fields, _ in found[:100] for name in fields if name not in _OWN and not name.startswith("_")}
    return sorted(names)[:8]


def _samples(root: Path, findings: Findings) -> Iterator[tuple[str, Fields]]:
    """The fields of each sample, with its origin."""
    if (root / "samples").is_dir():
        for path in sorted((root / "samples").glob("*.json")):
            with findings.entry():
                yield f"samples/{path.name}", read_document(path, _SINGLE, "a sample of FiftyOne")
        return
    if not (root / "metadata.json").is_file() and not (root / "samples.json").is_file():
        raise NotFound(f"{root}: holds no samples.json; export the data set from FiftyOne as FiftyOneDataset")
    document = read_document(root / "samples.json", _FORM, "samples.json of a FiftyOneDataset", findings)
    for number, fields in enumerate(document.samples):
        yield f"samples.json sample {_value(fields.get('_id')) or number}", fields


def _path(fields: Fields, origin: str) -> str:
    path = fields.get("filepath")
    if not isinstance(path, str):
        raise BadEntry(origin, f"filepath = {path!r}", "is not a path", "export it again")
    return path


def _sizes(locations: Sequence[str], samples: Sequence[Fields]) -> list[Size | None]:
    """Sizes of the upright images, from their files; for URLs, as FiftyOne measured them."""
    known = [
        _measured(fields) if is_url(location) else None for location, fields in zip(locations, samples, strict=True)
    ]
    unknown = [location for location, size in zip(locations, known, strict=True) if size is None]
    read = iter(sizes(unknown))
    return [size or next(read) for size in known]


def _measured(fields: Fields) -> Size | None:
    metadata = fields.get("metadata")
    width, height = (metadata.get(name) if isinstance(metadata, dict) else None for name in ("width", "height"))
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def _attributes(fields: Fields, declared: FiftyOne, tags: Sequence[str]) -> dict[str, Value]:
    own = fields.get("tags") or []
    attributes: dict[str, Value] = {f"tag_{plain_name(tag)}": tag in own for tag in tags}
    attributes["split"] = next((_WORDS[tag.lower()] for tag in own if tag.lower() in _WORDS), None)
    for name, raw in fields.items():
        value = _value(raw)
        if name not in _OWN and name not in declared.fields and not name.startswith("_"):
            attributes |= {name: value} if isinstance(value, str | bool | int | float | datetime) else {}
    return attributes


def _value(raw: Any) -> Any:
    """A value of MongoDB's extended JSON."""
    if not isinstance(raw, dict) or len(raw) != 1:
        return raw
    (name, value), *_ = raw.items()
    match name:
        case "$oid":
            return value
        case "$numberDecimal" if re.fullmatch("[+-]?[0-9]+", str(value)):  # an id keeps its digits
            return int(value)
        case "$numberDouble" | "$numberDecimal":
            return float(value)
        case "$numberInt" | "$numberLong":
            return int(value)
        case "$date":
            value = _value(value)
            return value if isinstance(value, str) else datetime.fromtimestamp(value / 1000, UTC)
    return raw


def _label(
    builder: ContentBuilder, key: str, origin: str, value: Any, task: Task, size: Size | None, declared: FiftyOne
) -> None:
    columns = _label_columns(value, task, origin, size, declared)
    if columns is not None:
        builder.add_label(key, task.name, origin=origin, **columns)


def _label_columns(value: Any, task: Task, origin: str, size: Size | None, declared: FiftyOne) -> Fields | None:
    """The columns of `LABELS`; None if the label is unknown, or its image is unreadable and will be quarantined."""
    if not isinstance(value, dict):
        return value_of(task, value, origin)
    match value.get("_cls"):
        case "Classification":
            return _single(value, value.get("label"), task, origin)
        case "Regression":
            return _single(value, _value(value.get("value")), task, origin)
        case "Classifications":
            return _several(value.get("classifications") or [], task, origin)
        case "Detections" if task.kind == "detection":
            return _detections(value.get("detections") or [], origin, size, declared)
        case "Detection" if task.kind == "detection":
            return _detections([value], origin, size, declared)
    raise BadInput(f"{origin}: a {value.get('_cls')} is no label of {task.name}, a {task.kind} task; correct fields")


def _single(value: Fields, label: Any, task: Task, origin: str) -> Fields | None:
    if label is None:
        return None
    labels = [label] if task.kind == "multilabel" else label
    return value_of(task, labels, origin) | {"confidence": _value(value.get("confidence"))}


def _several(parts: Sequence[Fields], task: Task, origin: str) -> Fields | None:
    labels = [part.get("label") for part in parts]
    if task.kind == "multilabel":
        return value_of(task, labels, origin)
    return value_of(task, labels[0] if len(labels) == 1 else labels, origin) if labels else None


def _detections(parts: Sequence[Any], origin: str, size: Size | None, declared: FiftyOne) -> Fields | None:
    if size is None and parts:
        return None
    classes = Classes(declared.rename, declared.leave_out)
    origins = [f"{origin} detection {number}" for number in range(1, len(parts) + 1)]
    boxes = [_box(part, size or (1, 1), classes, where) for part, where in zip(parts, origins, strict=True)]
    kept = [(made, where) for made, where in zip(boxes, origins, strict=True) if made]
    return {"boxes": [made for made, _ in kept], "box_origins": [where for _, where in kept]}


def _box(part: Any, size: Size, classes: Classes, origin: str) -> dict[str, Any] | None:
    try:
        x, y, w, h = (float(_value(side)) for side in part["bounding_box"])
        name = classes.named(str(part["label"]))
    except (KeyError, TypeError, ValueError):
        raise BadEntry(
            origin, str(part)[:60], "is no detection", "it needs a label and a bounding_box of 4 numbers"
        ) from None
    if name is None:
        return None
    other = {key: _value(raw) for key, raw in part.items() if key not in ("label", "bounding_box", "mask", "tags")}
    inner = {key: raw.get("value") for key, raw in (part.get("attributes") or {}).items() if isinstance(raw, dict)}
    return box(name, *scaled(size, x, y, w, h), {k: v for k, v in (inner | other).items() if not k.startswith("_")})
