"""COCO files: images, their boxes, and the categories of the boxes.

pycocotools parses the same JSON with Python's own parser and validates nothing; its strength is masks.
"""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from curation.errors import BadInput
from curation.files.locations import is_url
from curation.ingestion.readers.box_forms import Box, Classes, box
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.content_builder import ContentBuilder
from curation.ingestion.readers.declared import Coco
from curation.ingestion.readers.findings import BadEntry, Findings
from curation.ingestion.readers.image_paths import located
from curation.ingestion.readers.json_files import read_document

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


def _box_or_none(value: object) -> object:
    """Exporters without a box write an empty list."""
    return None if value == [] else value


@dataclass(frozen=True, slots=True)
class _Annotation:
    image_id: Id
    category_id: Id
    bbox: Annotated[tuple[float, float, float, float] | None, BeforeValidator(_box_or_none)] = None
    id: Id | None = None
    iscrowd: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)


_MISSING: list[_Annotation] = []


@dataclass(frozen=True, slots=True)
class _File:
    images: Annotated[list[_Image], Field(min_length=1)]
    categories: list[_Category]
    annotations: list[_Annotation] = field(default_factory=lambda: _MISSING)


@dataclass(frozen=True, slots=True)
class _Masks:
    annotations: list[dict[str, Any]]


_Part = TypeVar("_Part", _Image, _Category)
_FORM = TypeAdapter(_File)
_MASKS = TypeAdapter(_Masks)


@dataclass(kw_only=True)
class _Boxes:
    """The boxes of each image of a file, with their origins, and the images whose boxes are incomplete."""

    boxes: dict[Id, list[Box]]
    origins: dict[Id, list[str]]
    incomplete: set[Id]


def read_coco(folder: Path, declared: Coco, *, dataset: str, findings: Findings) -> Content:
    """Read the declared COCO files from `folder`.

    Every image of a file is a sample with one label of the declared task: its boxes, with `supercategory`, `iscrowd`
    where it is set, and the content of `attributes`. An annotation without bbox has the box around its polygons. An
    image without annotations holds no object, unless `missing` declares it unknown; the images of a file without
    `annotations` are unknown, and so is an image with an annotation that has neither bbox nor polygon. Keys are
    `dataset`/file_name without extension, with the folder if the splits have their own. NotFound or BadInput name the
    file and the image or annotation.
    """
    builder = ContentBuilder(
        dataset, annotator=declared.annotator, timezone=declared.timezone, unknown=declared.unknown, findings=findings
    )
    for file, images, split in declared.parts(folder):
        _read_file(builder, folder, file, images, split, declared, findings)
    return builder.content(held_back=declared.held_back, fractions=bool(declared.fractions))


def _read_file(
    builder: ContentBuilder, folder: Path, file: str, images: str, split: str | None, declared: Coco,
    findings: Findings,
) -> None:  # fmt: skip
    dropped: list[Any] = []
    document = read_document(folder / file, _FORM, "a COCO file", findings, dropped)
    found = _boxes(
        document, None if dropped else folder / file, file, Classes(declared.rename, declared.leave_out), findings
    )
    found.incomplete |= {part["image_id"] for part in dropped if isinstance(part, dict) and "image_id" in part}
    unlabelled = document.annotations is _MISSING
    if unlabelled:
        findings.note(f"{file}: has no annotations; its {len(document.images):,} images are unknown")
    root = images if is_url(images) else str((folder / images).absolute())
    for image in _by_id(document.images, f"{file} image", findings).values():
        origin = f"{file} image {image.id}"
        with findings.entry():
            attributes = {"split": split, "captured_at": _time(image) if declared.times else None}
            location = located(root, image.file_name, origin)
            name = declared.key_name(images, image.file_name)
            key = builder.add_image(name, location, attributes, origin, root=root)
            known = image.id in found.boxes or declared.missing == "none"
            if known and not unlabelled and image.id not in found.incomplete:
                boxes, origins = found.boxes.get(image.id, []), found.origins.get(image.id, [])
                builder.add_label(key, declared.task, origin=origin, boxes=boxes, box_origins=origins)


def _boxes(document: _File, path: Path | None, file: str, classes: Classes, findings: Findings) -> _Boxes:
    """The boxes of each image that has annotations."""
    categories = _by_id(document.categories, f"{file} category", findings)
    known = {image.id for image in document.images}
    lacking = any(part.bbox is None for part in document.annotations)
    masks = _masks(path) if lacking and path else None  # with entries dropped, numbers differ from the file's
    found, without = _Boxes(boxes={}, origins={}, incomplete=set()), []
    for number, annotation in enumerate(document.annotations):
        origin = f"{file} annotation {annotation.id if annotation.id is not None else f'number {number}'}"
        category = categories.get(annotation.category_id)
        if category is None or annotation.image_id not in known:
            findings.refuse(_stray(origin, annotation, category is None))
            found.incomplete.add(annotation.image_id)
            continue
        boxes = found.boxes.setdefault(annotation.image_id, [])
        origins = found.origins.setdefault(annotation.image_id, [])
        name = classes.named(category.name)
        corner = annotation.bbox if masks is None or annotation.bbox else _around(masks[number])
        if name is not None and corner is None:
            without.append(origin)
            found.incomplete.add(annotation.image_id)
        elif name is not None and corner is not None:
            boxes.append(box(name, *corner, _box_attributes(annotation, category)))
            origins.append(origin)
    findings.note_several(without, "no bbox and no polygon; the boxes of such images are unknown")
    return found


def _masks(path: Path) -> list[Any]:
    """The segmentation of each annotation; read only where a bbox is missing, for polygons are most of a file."""
    return [part.get("segmentation") for part in read_document(path, _MASKS, "a COCO file").annotations]


def _around(polygons: Any) -> tuple[float, float, float, float] | None:
    """The box around polygons (lists of x, y, x, y, ...), or None without any."""
    if not isinstance(polygons, list) or not all(isinstance(part, list) and len(part) >= 6 for part in polygons):
        return None
    xs, ys = [x for part in polygons for x in part[::2]], [y for part in polygons for y in part[1::2]]
    if not xs or not all(isinstance(value, int | float) for value in (*xs, *ys)):
        return None
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _by_id(parts: list[_Part], what: str, findings: Findings) -> dict[Id, _Part]:
    found: dict[Id, _Part] = {}
    for part in parts:
        if part.id in found:
            findings.refuse(BadInput(f"{what} {part.id}: is in the file twice; keep one entry for each id"))
        found.setdefault(part.id, part)
    return found


def _stray(origin: str, annotation: _Annotation, no_category: bool) -> BadEntry:
    what, value = ("category", annotation.category_id) if no_category else ("image", annotation.image_id)
    return BadEntry(
        origin, f"{what}_id = {value!r}", f"is no {what} {value!r} of the file", "add it or remove the annotation"
    )


def _box_attributes(annotation: _Annotation, category: _Category) -> dict[str, Any]:
    crowd = {"iscrowd": True} if annotation.iscrowd else {}
    return {"supercategory": category.supercategory or None, **annotation.attributes, **crowd}


def _time(image: _Image) -> str | None:
    """The capture time; exporters without one write 0 or an empty text."""
    return image.date_captured or None if isinstance(image.date_captured, str) else None
