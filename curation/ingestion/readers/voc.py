"""Pascal VOC: one XML file for each image (Everingham et al., IJCV 2010), as many labelling tools export it.

Python's own parser reads it; files with a DOCTYPE are refused, for entities can explode.
"""

import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from curation.errors import BadInput, NotFound
from curation.files.locations import is_url
from curation.ingestion.readers.box_forms import Box, Classes, box
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.content_builder import ContentBuilder
from curation.ingestion.readers.declared import Voc
from curation.ingestion.readers.findings import BadEntry, Findings
from curation.ingestion.readers.image_paths import images_in, located
from curation.ingestion.readers.json_files import read_text

__all__ = ["read_voc"]

_DEEP = 32  # links may form a cycle
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_FLAGS = ("difficult", "truncated", "occluded")


def read_voc(folder: Path, declared: Voc, *, dataset: str, findings: Findings) -> Content:
    """Read the XML files in `folder`/`declared.annotations`, and the images without one.

    Every image is a sample with one label of the declared task: its boxes, with `pose`, `difficult`, `truncated`,
    `occluded` and other attributes. A file without objects means no boxes; an image without a file is unknown, unless
    `missing` declares it none. With `splits`, only the images of these lists are read. Keys are `dataset`/path below
    the images' folder, without extension. NotFound or BadInput name the file and the object.
    """
    root = (folder / declared.annotations).absolute()
    if not root.is_dir():
        raise NotFound(f"{root}: no such folder; check [reader] annotations")
    images = declared.images if is_url(declared.images) else str((folder / declared.images).absolute())
    splits = _splits(folder, declared)
    builder = ContentBuilder(dataset, annotator=declared.annotator, unknown=declared.unknown, findings=findings)
    used: set[str] = set()
    for path in _files(root, splits, findings):
        with findings.entry():
            _add_file(builder, path, root, images, splits, declared, used)
    if not is_url(images):
        _add_others(builder, Path(images), splits, declared, used, findings)
    content = builder.content(held_back=declared.held_back, fractions=bool(declared.fractions))
    if not len(content.samples):
        raise BadInput(f"{root}: holds no XML file of an image; check [reader] annotations and splits")
    return content


def _splits(folder: Path, declared: Voc) -> dict[str, str]:
    """The split of each listed image, by its name without extension."""
    found: dict[str, str] = {}
    for split, file in declared.splits.items():
        for number, line in enumerate(read_text(folder / file).splitlines(), 1):
            name, *flag = line.split() or [""]
            if name and flag != ["-1"]:  # lists of one class mark images without it by -1
                before = found.setdefault(_stem(name), split)
                if before != split:
                    raise BadEntry(f"{file} line {number}", repr(name), f"is in {before} too", "keep one split")
    return found


def _stem(name: str) -> str:
    stem, extension = os.path.splitext(name)
    return stem if extension.lower() in (".jpg", ".jpeg", ".png", ".xml") else name


def _files(root: Path, splits: dict[str, str], findings: Findings) -> Iterator[Path]:
    passed: Counter[str] = Counter()
    for path in sorted(root.rglob("*")):
        if path.is_dir():
            continue
        name = path.relative_to(root).with_suffix("").as_posix()
        if path.suffix.lower() != ".xml" or path.name.startswith("."):
            passed["no XML"] += 1
        elif splits and name not in splits:
            passed["in no list of splits"] += 1
        else:
            yield path
    findings.note_passed_over(root.name, passed)


def _add_file(
    builder: ContentBuilder, path: Path, root: Path, images: str, splits: dict[str, str], declared: Voc, used: set[str]
) -> None:
    name = path.relative_to(root)
    origin, stem = f"{declared.annotations}/{name.as_posix()}", name.with_suffix("").as_posix()
    tree = _parsed(path, origin)
    image = (tree.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]
    by_name = located(images, str(name.with_name(image)), origin) if image else ""
    by_stem = located(images, stem, origin)
    location = by_name if by_name and (is_url(images) or not os.path.exists(by_stem)) else by_stem
    used.add(location)
    below = location.removeprefix(f"{images.rstrip('/')}/")
    key = builder.add_image(below, location, {"split": splits.get(stem)}, origin)
    boxes, origins = _boxes(tree, declared, origin)
    builder.add_label(key, declared.task, origin=origin, boxes=boxes, box_origins=origins)


def _add_others(
    builder: ContentBuilder, folder: Path, splits: dict[str, str], declared: Voc, used: set[str], findings: Findings
) -> None:
    """Add the images without an XML file."""
    passed: Counter[str] = Counter()
    for path in sorted(images_in(folder, _DEEP, passed, findings)) if folder.is_dir() else ():
        stem = path.with_suffix("").as_posix()
        if str(folder / path) in used or (splits and stem not in splits):
            continue
        origin = f"{declared.images}/{path}"
        key = builder.add_image(str(path), str(folder / path), {"split": splits.get(stem)}, origin)
        if declared.missing == "none":
            builder.add_label(key, declared.task, origin=origin, boxes=[], box_origins=[])
    passed.pop(".xml (no image)", None)  # may lie beside their images
    findings.note_passed_over(folder.name, passed)


def _parsed(path: Path, origin: str) -> ElementTree.Element:
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadEntry(origin, "", "holds a DOCTYPE, which is not read", "remove it")
    try:
        tree = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError as error:
        line = error.position[0]
        raise BadEntry(f"{origin} line {line}", "", f"not valid XML ({error.msg})", "export it again") from None
    if tree.tag != "annotation":
        raise BadEntry(origin, f"<{tree.tag}>", "is not an <annotation> of Pascal VOC", "choose another reader")
    return tree


def _boxes(tree: ElementTree.Element, declared: Voc, origin: str) -> tuple[list[Box], list[str]]:
    """The boxes of a file, with the origin of each."""
    classes, boxes, origins = Classes(declared.rename, declared.leave_out), [], []
    for number, part in enumerate(tree.findall("object"), 1):
        where = f"{origin} object {number}"
        raw = (part.findtext("name") or "").strip()
        if not raw:
            raise BadEntry(where, "", "has no name", "give it a class")
        name = classes.named(raw)
        if name is not None:
            first = 0 if declared.fractions else declared.first_pixel
            boxes.append(box(name, *_corner(part, where, first), _attributes(part, declared)))
            origins.append(where)
    return boxes, origins


def _corner(part: ElementTree.Element, origin: str, first_pixel: int) -> tuple[float, float, float, float]:
    """Left, top, width and height in pixels: VOC counts pixels from 1, and xmax is the last one of the box."""
    texts = [part.findtext(f"bndbox/{side}") for side in _SIDES]
    try:
        left, top, right, bottom = (float(text or "") for text in texts)
    except ValueError:
        shown = ", ".join(f"{side} = {text}" for side, text in zip(_SIDES, texts, strict=True))
        raise BadEntry(origin, shown, "is no box", "write xmin, ymin, xmax and ymax in pixels") from None
    return left - first_pixel, top - first_pixel, right - left + first_pixel, bottom - top + first_pixel


def _attributes(part: ElementTree.Element, declared: Voc) -> dict[str, str | bool]:
    found: dict[str, str | bool] = {}
    for child in part:
        text = (child.text or "").strip()
        if child.tag in _FLAGS and text:
            found[child.tag] = text not in ("0", "false", "False")
        elif child.tag == "pose" and text:
            found["pose"] = text
    for attribute in part.iterfind("attributes/attribute"):
        found[(attribute.findtext("name") or "").strip()] = (attribute.findtext("value") or "").strip()
    return {name: value for name, value in found.items() if name and value not in declared.unknown}
