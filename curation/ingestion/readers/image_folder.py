"""Images below a folder, without labels."""

import re
from collections import Counter
from pathlib import Path, PurePosixPath

from curation.errors import BadInput, NotFound
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.content_builder import ContentBuilder
from curation.ingestion.readers.declared import ImageFolder
from curation.ingestion.readers.findings import Findings
from curation.ingestion.readers.image_paths import EXTENSIONS, images_in
from curation.ingestion.readers.path_pattern import attributes_of, form_of, group_of, note_wide_groups

__all__ = ["read_image_folder"]

_DEEP = 32  # links may form a cycle


def read_image_folder(folder: Path, declared: ImageFolder, *, dataset: str, findings: Findings) -> Content:
    """Read all images below `folder`/`declared.folder`; hidden files and files that are no images are passed over.

    Keys are `dataset`/path, without extension. A pattern selects images and gives them attributes. A note counts the
    files that are passed over.
    """
    root = (folder / declared.folder).absolute()
    if not root.is_dir():
        raise NotFound(f"{root}: no such folder; check [reader] folder")
    builder, passed, groups = ContentBuilder(dataset, findings=findings), Counter[str](), dict[str, set[str]]()
    form = form_of(declared.pattern, needs=("name",)) if declared.pattern else None
    paths = sorted(images_in(root, _DEEP, passed, findings))
    for path in paths:
        match = form.fullmatch(str(path.with_suffix(""))) if form else None
        if form is not None and match is None:
            passed["that the pattern does not match"] += 1
            continue
        attributes = _attributes(match, path, declared, dataset)
        with findings.entry():
            builder.add_image(str(path), str(root / path), attributes, str(path))
        if "group" in attributes and not declared.group:
            groups.setdefault(attributes["group"], set()).add(str(path.parent))
    content = builder.content(held_back=False)
    if not len(content.samples):
        raise BadInput(_nothing(root, declared.pattern, paths))
    findings.note_passed_over(root.name, passed)
    note_wide_groups(groups, "folders", findings)
    return content


def _attributes(
    match: re.Match[str] | None, path: PurePosixPath, declared: ImageFolder, dataset: str
) -> dict[str, str]:
    if declared.group == "folder":
        return (attributes_of(match) if match else {}) | {"group": f"{dataset}/{path.parent}"}
    if match is None:
        if declared.group:
            raise BadInput(f"group {declared.group[0]!r}: needs a pattern with this placeholder; set [reader] pattern")
        return {}
    return attributes_of(match) | group_of(match, declared.group or (), declared.pattern)


def _nothing(root: Path, pattern: str, paths: list[PurePosixPath]) -> str:
    if not paths:
        return f"{root}: holds no image ({', '.join(EXTENSIONS)}); check [reader] folder and pattern"
    return f"{root}: no image matches {pattern!r}, for example {str(paths[0])!r} does not; correct the pattern"
