"""Scalabel files, as BDD100K is published: frames with attributes, videos and boxes.

The scalabel package was last released in 2023 and pins versions that newer libraries no longer support.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, TypeAdapter
from pydantic.dataclasses import dataclass

from curation.catalog.tasks import Task
from curation.files.locations import is_url
from curation.ingestion.readers.box_forms import Box, Classes, box
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.content_builder import ContentBuilder, Value, plain_name
from curation.ingestion.readers.declared import Scalabel
from curation.ingestion.readers.findings import BadEntry, Findings
from curation.ingestion.readers.image_paths import located
from curation.ingestion.readers.json_files import read_document
from curation.ingestion.readers.values import value_of

__all__ = ["read_scalabel"]

Attributes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Corners:
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class _Label:
    category: str | None = None
    box2d: _Corners | None = None
    poly2d: Any = None
    attributes: Attributes | None = None
    id: str | int | None = None


@dataclass(frozen=True, slots=True)
class _Frame:
    name: str
    url: str | None = None
    videoName: str | None = None
    video_name: str | None = None
    timestamp: int | None = None
    frameIndex: int | None = None
    attributes: Attributes | None = None
    labels: list[_Label] | None = None


@dataclass(frozen=True, slots=True)
class _File:
    frames: Annotated[list[_Frame], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class _OldFrame:
    objects: list[_Label]
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class _OldFile:
    """A file of one image, as BDD100K was first published."""

    name: str
    frames: Annotated[list[_OldFrame], Field(min_length=1, max_length=1)]
    attributes: Attributes | None = None


def _form(document: Any) -> str:
    if isinstance(document, list):
        return "list"
    frames = document.get("frames") if isinstance(document, dict) else None
    if isinstance(frames, list) and frames and isinstance(frames[0], dict) and "objects" in frames[0]:
        return "old"
    return "frame" if isinstance(document, dict) and frames is None and "name" in document else "object"


_FORM: TypeAdapter[_File | list[_Frame] | _Frame | _OldFile] = TypeAdapter(
    Annotated[
        Annotated[_File, Tag("object")]
        | Annotated[list[_Frame], Tag("list"), Field(min_length=1)]
        | Annotated[_Frame, Tag("frame")]
        | Annotated[_OldFile, Tag("old")],
        Discriminator(_form),
    ]
)


def read_scalabel(
    folder: Path, declared: Scalabel, *, dataset: str, tasks: Sequence[Task], findings: Findings
) -> Content:
    """Read the declared Scalabel files from `folder`: a list of frames in one file, or one file for each image.

    Attributes of frames become attributes, or labels of the tasks in `tasks`; labels with a `box2d` become boxes of the
    declared task, with their attributes, and so do labels with a closed `poly2d` alone if `lines` is "polygons"; a note
    counts the labels that are passed over. An empty list of labels means no boxes; a missing list is unknown, unless
    `missing` declares it none. `videoName` is the group, `timestamp` (ms since 1970) `captured_at`. Keys are
    `dataset`/videoName/name without extension, with the folder if the splits have their own. NotFound or BadInput name
    the file and the frame.
    """
    builder = ContentBuilder(
        dataset, annotator=declared.annotator, timezone=declared.timezone, unknown=declared.unknown, findings=findings
    )
    passed: list[str] = []
    seen: set[str] = set()
    by_attribute = {name: task for name, of in declared.tasks.items() for task in tasks if task.name == of}
    for file, images, split in declared.parts(folder):
        with findings.entry():
            document = read_document(folder / file, _FORM, "a list of Scalabel's frames", findings)
            root = images if is_url(images) else str((folder / images).absolute())
            for frame in _frames(document):
                seen |= {*(frame.attributes or {})}
                with findings.entry():
                    key, origin = _add_frame(builder, frame, declared, dataset, file, images, root, split)
                    for name, task in by_attribute.items():
                        with findings.entry():
                            _label(builder, key, frame, declared, name, task, origin)
                    _add_boxes(builder, key, frame, declared, origin, passed)
    polygons = "" if declared.lines else '; lines = "polygons" in [reader] reads the box around a closed poly2d'
    findings.note_missing("frame", "attribute", declared.tasks, seen)
    findings.note_several(passed, f"has no box2d and is passed over{polygons}")
    return builder.content(held_back=declared.held_back, fractions=bool(declared.fractions))


def _frames(document: _File | list[_Frame] | _Frame | _OldFile) -> list[_Frame]:
    match document:
        case list():
            return document
        case _File():
            return document.frames
        case _OldFile():
            (old,) = document.frames
            return [
                _Frame(name=document.name, timestamp=old.timestamp, attributes=document.attributes, labels=old.objects)
            ]
    return [document]


def _add_frame(
    builder: ContentBuilder, frame: _Frame, declared: Scalabel, dataset: str, file: str, images: str, root: str,
    split: str | None,
) -> tuple[str, str]:  # fmt: skip
    """Add the image of a frame; returns its key and origin."""
    origin = f"{file} frame {frame.name}"
    name = f"{_video(frame)}/{frame.name}" if _video(frame) else frame.name
    location = located(root, frame.url if frame.url and is_url(frame.url) else name, origin)
    attributes = _attributes(frame, declared, split, dataset, origin)
    return builder.add_image(declared.key_name(images, name), location, attributes, origin, root=root), origin


def _video(frame: _Frame) -> str | None:
    return frame.videoName or frame.video_name


def _attributes(frame: _Frame, declared: Scalabel, split: str | None, dataset: str, origin: str) -> dict[str, Value]:
    attributes: dict[str, Value] = {
        plain_name(name): value
        for name, value in (frame.attributes or {}).items()
        if name not in declared.tasks and isinstance(value, str | bool | int | float)
    }
    if _video(frame):
        attributes["group"] = f"{dataset}/{_video(frame)}"
    if frame.timestamp is not None and frame.timestamp > 10**10:  # smaller timestamps count from the start of a video
        try:
            attributes["captured_at"] = datetime.fromtimestamp(frame.timestamp / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            rule = "is not a time in milliseconds since 1970"
            raise BadEntry(origin, f"timestamp = {frame.timestamp}", rule, "correct it or leave it out") from None
    return attributes | ({"split": split} if split else {})


def _label(
    builder: ContentBuilder, key: str, frame: _Frame, declared: Scalabel, name: str, task: Task, origin: str
) -> None:
    value = (frame.attributes or {}).get(name)
    if value is not None and _known(value, declared):
        builder.add_label(key, task.name, origin=origin, **value_of(task, value, origin))


def _add_boxes(
    builder: ContentBuilder, key: str, frame: _Frame, declared: Scalabel, origin: str, passed: list[str]
) -> None:
    if frame.labels is not None or declared.missing == "none":
        boxes, origins = _boxes(frame.labels or [], declared, origin, passed)
        builder.add_label(key, declared.task, origin=origin, boxes=boxes, box_origins=origins)


def _boxes(labels: list[_Label], declared: Scalabel, origin: str, passed: list[str]) -> tuple[list[Box], list[str]]:
    """The boxes of a frame, with the origin of each; labels without a box are added to `passed`."""
    classes = Classes(declared.rename, declared.leave_out)
    boxes, origins = [], []
    for number, label in enumerate(labels):
        name = classes.named(label.category or "")
        if name is None:
            continue
        where = f"{origin} label {label.id if label.id is not None else f'number {number}'}"
        sides = _sides(label, declared, where)
        if sides is None:
            passed.append(where)
        else:
            attributes = {key: value for key, value in (label.attributes or {}).items() if _known(value, declared)}
            boxes.append(box(name, *sides, attributes))
            origins.append(where)
    return boxes, origins


def _sides(label: _Label, declared: Scalabel, origin: str) -> tuple[float, float, float, float] | None:
    """Left, top, width and height of a label, or None when it has no box."""
    corners, more = label.box2d, float(declared.inclusive)
    if corners is not None:
        return corners.x1, corners.y1, corners.x2 - corners.x1 + more, corners.y2 - corners.y1 + more
    if not declared.lines or not label.poly2d:
        return None
    try:
        points = [point for part in label.poly2d if part.get("closed") for point in part["vertices"]]
        xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
    except (AttributeError, KeyError, TypeError, ValueError):
        rule = "is not a list of polygons with vertices and closed"
        raise BadEntry(origin, f"poly2d = {str(label.poly2d)[:40]}", rule, "correct it or set leave_out") from None
    return (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)) if points else None


def _known(value: object, declared: Scalabel) -> bool:
    return not (isinstance(value, str) and value in declared.unknown)
