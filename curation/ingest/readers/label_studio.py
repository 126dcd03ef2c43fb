"""Label Studio's JSON export of a project, with every annotation of every person.

Its SDK talks to a server; label-studio-converter converts exports to other formats and drops the annotators.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.locations import is_url
from curation.ingest.readers.box_forms import Box, Classes, box, scaled, turned
from curation.ingest.readers.content import Content
from curation.ingest.readers.content_builder import ContentBuilder
from curation.ingest.readers.declared import LabelStudio
from curation.ingest.readers.image_paths import located
from curation.ingest.readers.json_files import read_document
from curation.ingest.readers.values import value_of

__all__ = ["read_label_studio"]

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Result:
    type: str = ""
    from_name: str = ""
    id: str | None = None
    value: Fields = field(default_factory=dict)
    original_width: int | None = None
    original_height: int | None = None
    image_rotation: float | None = None


@dataclass(frozen=True, slots=True)
class _Annotation:
    id: int | str | None = None
    completed_by: int | str | Fields | None = None
    result: list[_Result] = field(default_factory=list)
    was_cancelled: bool | None = False
    created_at: str | None = None
    updated_at: str | None = None


@dataclass(frozen=True, slots=True)
class _Item:
    data: Fields
    annotations: list[_Annotation]
    id: int | str | None = None


_FORM: TypeAdapter[list[_Item]] = TypeAdapter(Annotated[list[_Item], Field(min_length=1)])


def read_label_studio(folder: Path, declared: LabelStudio, *, dataset: str, tasks: Sequence[Task]) -> Content:
    """Read the declared export from `folder`; `tasks` are the data set's.

    `tags` maps control tags (from_name) to tasks: Choices, Number, Rating and RectangleLabels. Every person's
    annotation is a label of that annotator; the newest counts if a person gave several. A skipped item is unsure. An
    item without a result for a tag has no label of its task. Boxes become pixels of the upright image; a rotated box
    becomes the axis-aligned box around it, with its attribute `rotation`. Results about one region become attributes
    of its box. Keys are `dataset`/path of the image without extension, or the field `key` of the data; then the images
    are not read. NotFound or BadInput name the file, the item and the annotation.
    """
    items = read_document(folder / declared.file, _FORM, "Label Studio's export as JSON (not JSON_MIN)")
    builder = ContentBuilder(dataset, annotator=declared.annotator)
    by_tag = {tag: task for tag, name in declared.tags.items() for task in tasks if task.name == name}
    newest: dict[tuple[str, str, str], Fields] = {}
    for number, item in enumerate(items):
        origin = f"{declared.file} item {item.id if item.id is not None else number}"
        key = _key(builder, item, declared, folder, origin)
        for annotation in item.annotations:
            for label in _labels(annotation, by_tag, declared, origin):
                label["annotator"] = _annotator(annotation, declared)
                author = (key, label["task"], label["annotator"])
                if author not in newest or (newest[author]["labelled_at"] or "") <= (label["labelled_at"] or ""):
                    newest[author] = label
    for (key, task, _), label in newest.items():
        label.pop("task")
        builder.add_label(key, task, **label)
    return builder.content(held_back=declared.held_back)


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
    name = _path(value)
    root = declared.images if is_url(declared.images) else (folder / declared.images).absolute()
    attributes = {
        name: value
        for name, value in item.data.items()
        if name != declared.image and isinstance(value, str | bool | int | float)
    }
    return builder.add_image(name, located(root, name, origin), attributes, origin, again=True)


def _path(value: str) -> str:
    """The image of an item: a URL, or its path below the folder that Label Studio serves."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https", "") or not parts.path.startswith("/data/"):
        return value
    if parts.path.startswith("/data/local-files/"):
        return parse_qs(parts.query).get("d", [""])[0].lstrip("/")
    return value if parts.scheme else parts.path.removeprefix("/data/").removeprefix("upload/")


def _annotator(annotation: _Annotation, declared: LabelStudio) -> str:
    person = annotation.completed_by
    if isinstance(person, dict):
        person = person.get("email") or person.get("id")
    return declared.annotator if person is None else person if isinstance(person, str) else f"label_studio:{person}"


def _labels(
    annotation: _Annotation, by_tag: Mapping[str, Task], declared: LabelStudio, origin: str
) -> Iterator[Fields]:
    """The labels of one annotation, by task."""
    where = f"{origin} annotation {annotation.id}"
    same = {"labelled_at": annotation.updated_at or annotation.created_at}
    for tag, task in by_tag.items():
        origin_of_tag = f"{where} {tag}"
        label: Fields = {"task": task.name, "origin": origin_of_tag, **same}
        if annotation.was_cancelled:
            if declared.skipped == "unsure":
                yield label | {"state": "unsure"}
            continue
        results = [result for result in annotation.result if result.from_name == tag]
        if task.kind == "detection":
            if results or declared.missing == "none":
                yield label | {"boxes": _boxes(results, annotation.result, by_tag, declared, origin_of_tag)}
        elif results:
            yield label | value_of(task, _value(results, task, origin_of_tag), origin_of_tag)


def _value(results: Sequence[_Result], task: Task, origin: str) -> Any:
    result = results[-1]
    match result.type:
        case "choices":
            chosen = result.value.get("choices")
            if not isinstance(chosen, list) or (task.kind != "multilabel" and len(chosen) != 1):
                raise BadInput(f"{origin}: {chosen!r} is not one choice, which {task.name} takes; correct it")
            return chosen if task.kind == "multilabel" else chosen[0]
        case "number" | "rating":
            return result.value.get(result.type)
    raise BadInput(
        f"{origin}: a {result.type or 'result'} is no label of {task.name}, a {task.kind} task; correct tags"
    )


def _boxes(
    results: Sequence[_Result],
    others: Sequence[_Result],
    by_tag: Mapping[str, Task],
    declared: LabelStudio,
    origin: str,
) -> list[Box]:
    classes, found = Classes(declared.rename, declared.leave_out), []
    for result in results:
        name = classes.named(_class(result, origin))
        if name is not None:
            attributes = _of_region(result, others, by_tag)
            found.append(box(name, *_pixels(result, origin), attributes | _rotation(result)))
    return found


def _class(result: _Result, origin: str) -> str:
    names = result.value.get("rectanglelabels")
    if result.type != "rectanglelabels" or not isinstance(names, list) or len(names) != 1:
        raise BadInput(
            f"{origin}: region {result.id} is a {result.type} of {names!r}, not a rectangle of one label; correct it"
        )
    return str(names[0])


def _pixels(result: _Result, origin: str) -> tuple[float, float, float, float]:
    """A region in percent of the shown image, converted to pixels."""
    size, value = (result.original_width, result.original_height), result.value
    if result.image_rotation:
        raise BadInput(
            f"{origin}: its image was rotated by {result.image_rotation:g} degrees; rotate it back in Label Studio"
        )
    try:
        width, height = int(size[0] or 0), int(size[1] or 0)
        x, y, w, h = (float(value[side]) / 100 for side in ("x", "y", "width", "height"))
        if width < 1 or height < 1:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise BadInput(
            f"{origin}: region {result.id} lacks its coordinates or original_width and height; export it again"
        ) from None
    turn = _rotation(result).get("rotation", 0.0)
    if turn:
        return turned(x * width, y * height, w * width, h * height, turn)
    return scaled((width, height), x, y, w, h)


def _rotation(result: _Result) -> dict[str, float]:
    turn = result.value.get("rotation")
    return {"rotation": float(turn)} if isinstance(turn, int | float) and turn % 360 else {}


def _of_region(result: _Result, others: Sequence[_Result], by_tag: Mapping[str, Task]) -> Fields:
    """Further results about a region: results of the same id, by their tag."""
    found: Fields = {}
    for other in others:
        if other.id == result.id and result.id is not None and other.from_name not in by_tag:
            value = other.value.get(other.type)
            found[other.from_name] = "; ".join(map(str, value)) if isinstance(value, list) else value
    return found
