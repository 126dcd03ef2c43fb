"""Label Studio's JSON export of a project, with every annotation of every person.

Its SDK talks to a server; label-studio-converter converts exports to other formats and drops the annotators.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, unquote_plus, urlsplit

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.locations import is_url
from curation.ingestion.readers.box_forms import Classes, box
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.content_builder import ContentBuilder
from curation.ingestion.readers.declared import LabelStudio
from curation.ingestion.readers.findings import BadEntry, Findings
from curation.ingestion.readers.image_paths import located
from curation.ingestion.readers.json_files import read_document
from curation.ingestion.readers.label_studio_regions import (
    Fields,
    Result,
    attributes_of,
    class_of,
    pixels_of,
    rotation_of,
)
from curation.ingestion.readers.values import value_of

__all__ = ["read_label_studio"]

_SERVED = re.compile(r"/?(?:[\w.-]+/)*?data/(?P<kind>upload|local-files)/(?P<name>.*)")


@dataclass(frozen=True, slots=True)
class _Annotation:
    id: int | str | None = None
    completed_by: int | str | Fields | None = None
    result: list[Result] | None = None
    was_cancelled: bool | None = False
    created_at: str | None = None
    updated_at: str | None = None


@dataclass(frozen=True, slots=True)
class _Item:
    data: Fields
    annotations: list[_Annotation]
    id: int | str | None = None


_FORM: TypeAdapter[list[_Item]] = TypeAdapter(Annotated[list[_Item], Field(min_length=1)])


def read_label_studio(
    folder: Path, declared: LabelStudio, *, dataset: str, tasks: Sequence[Task], findings: Findings
) -> Content:
    """Read the declared export from `folder`; `tasks` are the data set's.

    `tags` maps control tags (from_name) to tasks: Choices, Number, Rating, and regions (rectangles, ellipses, polygons)
    with the class of their own or of a Labels tag. Every person's annotation is a label of that annotator; the newest
    counts if a person gave several. A skipped item is unsure. An item without a result for a tag has no label of its
    task, and neither has one with a region without class. Regions become the boxes around them, in pixels of the
    upright image; a rotated rectangle keeps its attribute `rotation`. Results about one region become attributes of its
    box. Keys are `dataset`/path of the image without extension, or the field `key` of the data; then the images are not
    read. NotFound or BadInput name the file, the item and the annotation.
    """
    items = read_document(folder / declared.file, _FORM, "Label Studio's export as JSON (not JSON_MIN)", findings)
    builder = ContentBuilder(dataset, annotator=declared.annotator, unknown=declared.unknown, findings=findings)
    by_tag = {tag: task for tag, name in declared.tags.items() for task in tasks if task.name == name}
    newest: dict[tuple[str, str, str], Fields] = {}
    unlabelled: list[str] = []
    for number, item in enumerate(items):
        origin = f"{declared.file} item {item.id if item.id is not None else number}"
        with findings.entry():
            key = _key(builder, item, declared, folder, origin)
            for annotation in item.annotations:
                for label in _labels(annotation, by_tag, declared, origin, findings, unlabelled):
                    label["annotator"] = _annotator(annotation, declared)
                    author = (key, label["task"], label["annotator"])
                    if author not in newest or (newest[author]["labelled_at"] or "") <= (label["labelled_at"] or ""):
                        newest[author] = label
    for (key, task, _), label in newest.items():
        builder.add_label(key, task, **{name: value for name, value in label.items() if name != "task"})
    findings.note_several(unlabelled, "has no class; the boxes of such annotations are unknown")
    _note_unused_tags(items, declared, findings)
    return builder.content(held_back=declared.held_back)


def _note_unused_tags(items: Sequence[_Item], declared: LabelStudio, findings: Findings) -> None:
    results = [result for item in items for annotation in item.annotations for result in annotation.result or ()]
    used = {result.from_name for result in results}
    for tag in declared.tags:
        if used and tag not in used:
            findings.note(f"no result has the tag {tag!r}; tags are {', '.join(sorted(used))}")


def _key(builder: ContentBuilder, item: _Item, declared: LabelStudio, folder: Path, origin: str) -> str:
    """Add the image of an item, or the sample whose key its data names; returns the key."""
    field_name = declared.key or declared.image
    value = item.data.get(field_name)
    if not isinstance(value, str) or not value:
        names = ", ".join(item.data) or "empty"
        raise BadInput(f"{origin}: its data has no text {field_name!r} ({names}); set image or key in [reader]")
    if declared.key:
        builder.add_sample(value, None, {}, origin, again=True)
        return value
    root = declared.images if is_url(declared.images) else str((folder / declared.images).absolute())
    name = _image_name(value, root)
    attributes = {
        name: value
        for name, value in item.data.items()
        if name != declared.image and isinstance(value, str | bool | int | float)
    }
    return builder.add_image(name, located(root, name, origin), attributes, origin, again=True, root=root)


def _image_name(value: str, root: str) -> str:
    """The image of an item: a URL, or its path below `root`, the folder that Label Studio serves.

    Label Studio may be served below a prefix or name its own host; a name may be quoted (%20, +) or not. Of several
    readings the one that exists counts.
    """
    if value.startswith("/data/") and not _SERVED.match(value):
        return value.removeprefix("/data/")
    parts = urlsplit(value) if "data/" in value else None
    match = _SERVED.match(parts.path) if parts and parts.scheme in ("http", "https", "") else None
    if parts is None or match is None:
        return value
    if match["kind"] == "local-files":
        query = re.search(r"(?:^|&)d=([^&]*)", parts.query)
        raw = query[1] if query else ""
        names = [unquote_plus(raw), unquote(raw), raw]
    else:
        names = [unquote(match["name"]), match["name"], unquote_plus(match["name"])]
    names = [name.lstrip("/") for name in names]
    readings = names if parts.scheme or value.startswith("/") else [value, *names]
    found = next((name for name in readings if not is_url(root) and os.path.exists(f"{root}/{name}")), None)
    return found or (value if parts.scheme and match["kind"] == "upload" else names[0])


def _annotator(annotation: _Annotation, declared: LabelStudio) -> str:
    person = annotation.completed_by
    if isinstance(person, dict):
        person = person.get("email") or person.get("id")
    return declared.annotator if person is None else person if isinstance(person, str) else f"label_studio:{person}"


def _labels(
    annotation: _Annotation, by_tag: Mapping[str, Task], declared: LabelStudio, origin: str, findings: Findings,
    unlabelled: list[str],
) -> Iterator[Fields]:  # fmt: skip
    """The labels of one annotation, by task; `unlabelled` collects the origins of regions without class."""
    same = {"labelled_at": annotation.updated_at or annotation.created_at}
    for tag, task in by_tag.items():
        where = f"{origin} annotation {annotation.id} {tag}"
        label: Fields = {"task": task.name, "origin": where, **same}
        if annotation.was_cancelled:
            if declared.skipped == "unsure":
                yield label | {"state": "unsure"}
            continue
        columns = None
        with findings.entry():
            columns = _columns(tag, task, annotation.result or [], by_tag, declared, where, unlabelled)
        if columns is not None:
            yield label | columns


def _columns(
    tag: str, task: Task, results: Sequence[Result], by_tag: Mapping[str, Task], declared: LabelStudio, origin: str,
    unlabelled: list[str],
) -> Fields | None:  # fmt: skip
    """The columns of `LABELS` of one tag's results, or None if they are unknown."""
    own = [result for result in results if result.from_name == tag]
    if task.kind != "detection":
        return value_of(task, _value(own, task, origin), origin) if own else None
    if not own and declared.missing == "unknown":
        return None
    boxes, origins = [], []
    classes = Classes(declared.rename, declared.leave_out)
    for result in own:
        where = f"{origin} region {result.id}"
        raw = class_of(result, results, where)
        if raw is None:
            unlabelled.append(where)
            return None
        name = classes.named(raw)
        if name is not None:
            attributes = attributes_of(result, results, by_tag) | rotation_of(result)
            boxes.append(box(name, *pixels_of(result, where), attributes))
            origins.append(where)
    return {"boxes": boxes, "box_origins": origins}


def _value(results: Sequence[Result], task: Task, origin: str) -> Any:
    result = results[-1]
    match result.type:
        case "choices":
            chosen = result.value.get("choices")
            if not isinstance(chosen, list) or (task.kind != "multilabel" and len(chosen) != 1):
                raise BadEntry(origin, repr(chosen), f"is not one choice, which {task.name} takes", "correct it")
            return chosen if task.kind == "multilabel" else chosen[0]
        case "number" | "rating":
            return result.value.get(result.type)
    raise BadInput(
        f"{origin}: a {result.type or 'result'} is no label of {task.name}, a {task.kind} task; correct tags"
    )
