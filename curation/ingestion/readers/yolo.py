"""YOLO's text files: one line for each box, in fractions of the upright image; data.yaml names the classes.

ultralytics, which defines the format, is AGPL and needs torch.
"""

import os
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, PositiveInt, field_validator, model_validator

from curation.errors import BadInput, NotFound
from curation.files.toml_files import parse
from curation.images.decoding import sizes
from curation.ingestion.readers.box_forms import Box, Classes, box, scaled
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.content_builder import ContentBuilder
from curation.ingestion.readers.declared import Yolo
from curation.ingestion.readers.findings import BadEntry, Findings
from curation.ingestion.readers.image_paths import images_in, located
from curation.ingestion.readers.json_files import read_text
from curation.ingestion.readers.yolo_lines import Line, LineForm, line_form, parse_line

__all__ = ["read_yolo"]

_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_NULLS = ("", "~", "null", "Null", "NULL")
_DEEP = 32  # links may form a cycle


class _TextLoader(yaml.BaseLoader):  # type: ignore[misc]
    """YAML whose scalars stay text: 2146, yes and 1e3 are names of classes. Aliases are refused: they can explode."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node; BadInput for an alias."""
        if self.check_event(yaml.AliasEvent):
            raise BadInput(f"line {self.peek_event().start_mark.line + 1}: holds an alias (*name); write the value")
        return super().compose_node(parent, index)


class _Yaml(BaseModel):
    """The parts of data.yaml that name the images and the classes."""

    path: str = ""
    names: dict[int, str] = Field(min_length=1)
    kpt_shape: tuple[PositiveInt, PositiveInt] | None = None
    train: str | list[str] | None = None
    val: str | list[str] | None = None
    test: str | list[str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _named_by_count(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Classes without names are class_0, class_1, ..., as ultralytics names them."""
        count = str(data.get("nc", ""))
        if not data.get("names") and "names" not in data and count.isdecimal():
            return {**data, "names": {number: f"class_{number}" for number in range(int(count))}}
        return data

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


def read_yolo(folder: Path, declared: Yolo, *, dataset: str, findings: Findings) -> Content:
    """Read the images and boxes of the declared data.yaml from `folder`.

    Each image of train, val and test is a sample of its first split; its text file becomes boxes of the declared task,
    in pixels. An empty file means no boxes; a missing file is unknown, unless `missing` declares it none. Polygons and
    oriented boxes become the box around them; of key points the box is read; a sixth number is the box's attribute
    `confidence`. Keys are `dataset`/path from data.yaml without extension. NotFound or BadInput name the file and its
    line.
    """
    path = folder / declared.file
    described = _described(path)
    images = _first_splits(list(_images(described, path, findings)), findings)
    if not images:
        raise BadInput(f"{path}: train, val and test name no image; correct them")
    texts = {image.path: _lines(image.text, path.parent, findings) for image in images if image.text.is_file()}
    lines = (line for found in texts.values() for line in found or ())
    form = line_form(lines, declared.lines, described.kpt_shape, path.name)
    filled = [image for image, found in texts.items() if found]
    known = dict(zip(filled, sizes([str(image) for image in filled]), strict=True))
    builder = ContentBuilder(dataset, annotator=declared.annotator, unknown=declared.unknown, findings=findings)
    for image in images:
        with findings.entry():
            key = builder.add_image(image.name, str(image.path), {"split": image.split}, image.name)
            found, size = texts.get(image.path, []), known.get(image.path)
            if found is None or (image.path not in texts and declared.missing == "unknown"):
                continue
            if size is not None or not found:  # an unreadable image is quarantined, and its boxes with it
                boxes = [_box(line, size or (1, 1), described.names, declared, form) for line in found]
                origins = [line.origin for line, made in zip(found, boxes, strict=True) if made]
                kept = [made for made in boxes if made]
                origin = os.path.relpath(image.text, path.parent)
                builder.add_label(key, declared.task, origin=origin, boxes=kept, box_origins=origins)
    return builder.content(held_back=declared.held_back)


def _described(path: Path) -> _Yaml:
    text = read_text(path)
    try:
        found = yaml.load(text, _TextLoader)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{path}: not valid YAML ({reason}); correct the file") from None
    except (BadInput, RecursionError) as error:
        reason = str(error) if isinstance(error, BadInput) else "is nested too deep; flatten it"
        raise BadInput(f"{path} {reason}") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path}: holds no names and folders; a data.yaml of YOLO is expected")
    return parse(_Yaml, {name: value for name, value in found.items() if value not in _NULLS}, where=str(path))


def _images(described: _Yaml, path: Path, findings: Findings) -> Iterator[_Image]:
    root = path.parent / described.path
    root = root if root.is_dir() else path.parent  # exporters write a path of their own machine
    for word, split in _SPLITS.items():
        named = getattr(described, word) or []
        for name in [named] if isinstance(named, str) else named:
            found = _found(root, name)
            if found is None:
                raise NotFound(f"{path}: {word} = {name!r}: there is no such folder or list below {root}; correct it")
            for image in _listed(found, findings) if found.suffix == ".txt" else _walked(found, findings):
                relative = os.path.relpath(image, root.absolute())
                yield _Image(name=relative.removeprefix("../"), path=image, split=split)


def _first_splits(images: list[_Image], findings: Findings) -> list[_Image]:
    """Each image once, in the first split that names it, with a note about images of several splits."""
    first: dict[Path, _Image] = {}
    several: Counter[tuple[str, str]] = Counter()
    for image in images:
        before = first.setdefault(image.path, image)
        if before.split != image.split:
            several[before.split, image.split] += 1
    for (one, other), count in several.items():
        findings.note(f"data.yaml: {count:,} images are in {one} and in {other}; they count as {one}")
    return list(first.values())


def _found(root: Path, name: str) -> Path | None:
    """The path of a folder or list; exporters also write it relative to the folder of a script beside the data."""
    plain = name.replace("\\", "/")
    for path in (root / plain, root / plain.removeprefix("../")):
        if path.is_dir() or (path.is_file() and path.suffix == ".txt"):
            return Path(posixpath.normpath(path.absolute()))
    return None


def _walked(folder: Path, findings: Findings) -> Iterator[Path]:
    passed: Counter[str] = Counter()
    yield from (folder / path for path in sorted(images_in(folder, _DEEP, passed, findings)))
    passed.pop(".txt (no image)", None)  # lie beside their images
    findings.note_passed_over(folder.name, passed)


def _listed(file: Path, findings: Findings) -> Iterator[Path]:
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if line.strip():
            with findings.entry():
                yield Path(located(file.parent, line.strip(), f"{file} line {number}"))


def _lines(path: Path, root: Path, findings: Findings) -> list[Line] | None:
    """The lines of a text file; None if it is refused, and its boxes are unknown."""
    origin = os.path.relpath(path, root)
    with findings.entry():
        text = read_text(path)
        return [
            parse_line(line, f"{origin} line {number}")
            for number, line in enumerate(text.splitlines(), 1)
            if line.strip()
        ]
    return None


def _box(line: Line, size: tuple[int, int], names: dict[int, str], declared: Yolo, form: LineForm) -> Box | None:
    """The box of a line, or None if its class is left out."""
    if line.code not in names:
        rule = f"is not among the {len(names)} names of data.yaml (0 to {max(names)})"
        raise BadEntry(line.origin, f"class {line.code}", rule, "correct the line, or add the name")
    corner, attributes = form.box_of(line)
    name = Classes(declared.rename, declared.leave_out).named(names[line.code])
    return None if name is None else box(name, *scaled(size, *corner), attributes)
