"""COCO files: images, their boxes, and the categories of the boxes.

pycocotools parses the same JSON with Python's own parser and validates nothing; its strength is masks.
"""

from collections import Counter
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from curation.errors import BadInput
from curation.files.locations import is_url
from curation.ingest.readers.box_forms import Box, Classes, box
from curation.ingest.readers.content import Content
from curation.ingest.readers.content_builder import ContentBuilder
from curation.ingest.readers.declared import Coco
from curation.ingest.readers.image_paths import located
from curation.ingest.readers.json_files import read_document

__all__ = ["read_coco"]

Id = int | str


@dataclass(frozen=True, slots=True)
class _Image:
    id: Id
    file_name: str
    date_captured: object = None


@dataclass(frozen=True, slots=True)
class _Category:
    id: Id
    name: str
    supercategory: str | None = None


@dataclass(frozen=True, slots=True)
class _Annotation:
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    id: Id | None = None
    iscrowd: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _File:
    images: Annotated[list[_Image], Field(min_length=1)]
    annotations: list[_Annotation]
    categories: list[_Category]


_Part = TypeVar("_Part", _Image, _Category)
_FORM = TypeAdapter(_File)


def read_coco(folder: Path, declared: Coco, *, dataset: str) -> Content:
    """Read the declared COCO files from `folder`.

    Every image of a file is a sample with one label of the declared task: its boxes, with `supercategory`, `iscrowd`
    where it is set, and the content of `attributes`. An image without annotations holds no object, unless `missing`
    declares it unknown. Keys are `dataset`/file_name without extension. NotFound or BadInput name the
    file and the image or annotation.
    """
    builder = ContentBuilder(dataset, annotator=declared.annotator, timezone=declared.timezone)
    for file, images, split in declared.parts():
        document = read_document(folder / file, _FORM, "a COCO file")
        boxes = _boxes(document, file, Classes(declared.rename, declared.leave_out))
        root = images if is_url(images) else (folder / images).absolute()
        for image in document.images:
            origin = f"{file} image {image.id}"
            attributes = {"split": split, "captured_at": _time(image) if declared.times else None}
            key = builder.add_image(image.file_name, located(root, image.file_name, origin), attributes, origin)
            if image.id in boxes or declared.missing == "none":
                builder.add_label(key, declared.task, origin=origin, boxes=boxes.get(image.id, []))
    return builder.content(held_back=declared.held_back)


def _boxes(document: _File, file: str, classes: Classes) -> dict[Id, list[Box]]:
    """The boxes of each image that has annotations."""
    categories = _by_id(document.categories, f"{file} category")
    known = _by_id(document.images, f"{file} image")
    boxes: dict[Id, list[Box]] = {}
    for number, annotation in enumerate(document.annotations):
        category = categories.get(annotation.category_id)
        if category is None or annotation.image_id not in known:
            raise BadInput(_stray(file, number, annotation, category is None))
        found = boxes.setdefault(annotation.image_id, [])
        if (name := classes.named(category.name)) is not None:
            found.append(box(name, *annotation.bbox, _box_attributes(annotation, category)))
    return boxes


def _by_id(parts: list[_Part], what: str) -> dict[Id, _Part]:
    found = {part.id: part for part in parts}
    if len(found) < len(parts):
        twice = Counter(part.id for part in parts).most_common(1)[0][0]
        raise BadInput(f"{what} {twice}: is in the file twice; keep one entry for each id")
    return found


def _stray(file: str, number: int, annotation: _Annotation, no_category: bool) -> str:
    which = annotation.id if annotation.id is not None else f"number {number}"
    what, value = ("category", annotation.category_id) if no_category else ("image", annotation.image_id)
    return f"{file} annotation {which}: there is no {what} {value!r} in the file; add it or remove the annotation"


def _box_attributes(annotation: _Annotation, category: _Category) -> dict[str, Any]:
    crowd = {"iscrowd": True} if annotation.iscrowd else {}
    return {"supercategory": category.supercategory or None, **annotation.attributes, **crowd}


def _time(image: _Image) -> str | None:
    """The capture time; exporters without one write 0 or an empty text."""
    return image.date_captured or None if isinstance(image.date_captured, str) else None
