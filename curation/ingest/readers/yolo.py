"""YOLO's text files: one line for each box, in fractions of the upright image; data.yaml names the classes.

ultralytics, which defines the format, is AGPL and needs torch.
"""

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, field_validator

from curation.errors import BadInput, NotFound
from curation.files.toml_files import parse
from curation.images.decoding import sizes
from curation.ingest.readers.box_forms import Box, Classes, box, scaled
from curation.ingest.readers.content import Content
from curation.ingest.readers.content_builder import ContentBuilder
from curation.ingest.readers.declared import Yolo
from curation.ingest.readers.image_paths import images_in, located
from curation.ingest.readers.json_files import read_text

__all__ = ["read_yolo"]

_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_DEEP = 32  # links may form a cycle

Corner = tuple[float, float, float, float]


class _Yaml(BaseModel):
    """The parts of data.yaml that name the images and the classes."""

    path: str = ""
    names: dict[int, str] = Field(min_length=1)
    train: str | list[str] | None = None
    val: str | list[str] | None = None
    test: str | list[str] | None = None

    @field_validator("names", mode="before")
    @classmethod
    def _numbered(cls, names: Any) -> Any:
        return dict(enumerate(names)) if isinstance(names, list) else names


@dataclass(frozen=True, kw_only=True)
class _Image:
    name: str
    path: Path
    split: str

    @property
    def text(self) -> Path:
        """The file of its boxes: its path with the last folder `images` replaced by `labels`."""
        head, found, tail = str(self.path).rpartition("/images/")
        return Path(f"{head}/labels/{tail}" if found else self.path).with_suffix(".txt")


def read_yolo(folder: Path, declared: Yolo, *, dataset: str) -> Content:
    """Read the images and boxes of the declared data.yaml from `folder`.

    Each image of train, val and test is a sample of that split; its text file becomes boxes of the declared task, in
    pixels. An empty file means no boxes; a missing file is unknown, unless `missing` declares it none. A polygon
    becomes the box around it, a sixth number the box's attribute `confidence`. Keys are `dataset`/path from data.yaml
    without extension. NotFound or BadInput name the file and its line.
    """
    path = folder / declared.file
    described = _described(path)
    images = list(_images(described, path))
    if not images:
        raise BadInput(f"{path}: train, val and test name no image; correct them")
    texts = {image.path: _lines(image.text) for image in images if image.text.is_file()}
    filled = [path for path, lines in texts.items() if lines]
    known = dict(zip(filled, sizes([str(path) for path in filled]), strict=True))
    builder = ContentBuilder(dataset, annotator=declared.annotator)
    for image in images:
        key = builder.add_image(image.name, str(image.path), {"split": image.split}, image.name)
        lines, size = texts.get(image.path), known.get(image.path)
        if lines is None and declared.missing == "unknown":
            continue
        if size is not None or not lines:  # an unreadable image is quarantined, and its boxes with it
            origin = os.path.relpath(image.text, path.parent)
            boxes = _boxes(lines or [], size or (1, 1), described.names, declared, origin)
            builder.add_label(key, declared.task, origin=origin, boxes=boxes)
    return builder.content(held_back=declared.held_back)


def _described(path: Path) -> _Yaml:
    text = read_text(path)
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{path}: not valid YAML ({reason}); correct the file") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path}: holds no names and folders; a data.yaml of YOLO is expected")
    return parse(_Yaml, found, where=str(path))


def _images(described: _Yaml, path: Path) -> Iterator[_Image]:
    root = path.parent / described.path
    root = root if root.is_dir() else path.parent  # exporters write a path of their own machine
    for word, split in _SPLITS.items():
        named = getattr(described, word) or []
        for name in [named] if isinstance(named, str) else named:
            found = _found(root, name)
            if found is None:
                raise NotFound(f"{path}: {word} = {name!r}: there is no such folder or list below {root}; correct it")
            for image in _listed(found) if found.suffix == ".txt" else _walked(found):
                relative = os.path.relpath(image, root.absolute())
                yield _Image(name=relative.removeprefix("../"), path=image, split=split)


def _found(root: Path, name: str) -> Path | None:
    """The path of a folder or list; exporters also write it relative to the folder of a script beside the data."""
    plain = name.replace("\\", "/")
    for path in (root / plain, root / plain.removeprefix("../")):
        if path.is_dir() or (path.is_file() and path.suffix == ".txt"):
            return Path(posixpath.normpath(path.absolute()))
    return None


def _walked(folder: Path) -> Iterator[Path]:
    yield from (folder / path for path in sorted(images_in(folder, _DEEP)))


def _listed(file: Path) -> Iterator[Path]:
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if line.strip():
            yield Path(located(file.parent, line.strip(), f"{file} line {number}"))


def _lines(path: Path) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]


def _boxes(
    lines: list[tuple[int, str]], size: tuple[int, int], names: dict[int, str], declared: Yolo, origin: str
) -> list[Box]:
    classes, found = Classes(declared.rename, declared.leave_out), []
    for number, line in lines:
        code, corner, attributes = _numbers(line, f"{origin} line {number}")
        if code not in names:
            raise BadInput(
                f"{origin} line {number}: class {code} is not among the {len(names)} names of data.yaml; correct it"
            )
        if (name := classes.named(names[code])) is not None:
            found.append(box(name, *scaled(size, *corner), attributes))
    return found


def _numbers(line: str, origin: str) -> tuple[int, Corner, dict[str, float]]:
    """Class, left, top, width and height in fractions, and further attributes of a line."""
    try:
        code, *numbers = [float(word) for word in line.split()]
        if code != int(code):
            raise ValueError
    except (ValueError, OverflowError):
        raise BadInput(f"{origin}: {line[:60]!r} is not a class and numbers; write: class x y width height") from None
    if len(numbers) in (4, 5):
        x, y, w, h, *confidence = numbers
        return int(code), (x - w / 2, y - h / 2, w, h), dict(zip(["confidence"], confidence, strict=False))
    if len(numbers) < 6 or len(numbers) % 2:
        raise BadInput(f"{origin}: {len(numbers)} numbers after the class make no box; write: class x y width height")
    xs, ys = numbers[::2], numbers[1::2]
    return int(code), (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)), {}
