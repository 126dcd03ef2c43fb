"""Images in folders that are named after their class: `dataset_train/yellow/0717438a.jpg`."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa

from curation.errors import BadInput, NotFound
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.findings import Findings
from curation.ingestion.readers.image_paths import EXTENSIONS, images_in, key_of
from curation.ingestion.readers.path_pattern import attributes_of, form_of, group_of, note_wide_groups

__all__ = ["read_class_folders"]

_DEEP = 32  # links may form a cycle

Matches = dict[PurePosixPath, re.Match[str]]
Attributes = Sequence[dict[str, str]]


def read_class_folders(
    folder: Path, *, pattern: str, task: str, dataset: str, held_back: bool, group: Sequence[str] = (),
    findings: Findings | None = None,
) -> Content:  # fmt: skip
    """Read the images whose path below `folder`, without its extension, matches `pattern`.

    In a pattern such as "dataset_{attr:published_split}/{label}/{name}", `{label}` is the class, `{name}` distinguishes
    files, and `{attr:NAME}` becomes the string attribute NAME; each stands for (part of) the name of one folder or
    file. The values of the placeholders in `group` form the attribute `group`. Keys are `dataset`/path, without
    extension. Hidden files and files that are no images are passed over, and counted in a note.
    All labels go to the content's `held_back` if `held_back` is true, otherwise to its `labels`.
    Raises `NotFound` without the folder, `BadInput` for a bad pattern, no match, or two files of one key.
    """
    findings = findings or Findings()
    form = form_of(pattern, needs=("label", "name"))
    if not folder.is_dir():
        raise NotFound(f"{folder}: no such folder; check the path or fetch the data set again")
    passed: Counter[str] = Counter()
    found = {path: form.fullmatch(_stem(path)) for path in sorted(images_in(folder, _DEEP, passed, findings))}
    matches = {path: match for path, match in found.items() if match}
    if not matches:
        raise BadInput(_nothing_matched(folder, pattern, list(found)))
    passed["that the pattern does not match"] += len(found) - len(matches)
    findings.note_passed_over(folder.name, +passed)
    matches = _with_one_key(dataset, matches, findings)
    keys = [key_of(dataset, str(path)) for path in matches]
    attributes = [attributes_of(match) | group_of(match, group, pattern) for match in matches.values()]
    if not group:
        _note_groups(matches, attributes, findings)
    labels = _labels(keys, task, matches)
    return Content.of(_samples(folder.absolute(), keys, matches, attributes), labels, held_back=held_back)


def _stem(path: PurePosixPath) -> str:
    return str(path.with_suffix(""))


def _nothing_matched(folder: Path, pattern: str, images: list[PurePosixPath]) -> str:
    if not images:
        return f"{folder}: holds no image ({', '.join(EXTENSIONS)}); check the path"
    return f"{folder}: no image matches {pattern!r}, for example {_stem(images[0])!r} does not; correct the pattern"


def _with_one_key(dataset: str, matches: Matches, findings: Findings) -> Matches:
    """The matches without paths whose key another path has (red/1.jpg and red/1.png): these are refused."""
    owners: dict[str, PurePosixPath] = {}
    for path in matches:
        owner = owners.setdefault(key_of(dataset, str(path)), path)
        if owner != path:
            key = key_of(dataset, str(path))
            findings.refuse(BadInput(f"{path} and {owner}: both would have the key {key!r}; rename one of them"))
    return {path: matches[path] for path in owners.values()}


def _note_groups(matches: Matches, attributes: Attributes, findings: Findings) -> None:
    classes: dict[str, set[str]] = {}
    for match, row in zip(matches.values(), attributes, strict=True):
        if "group" in row:
            classes.setdefault(row["group"], set()).add(match["label"])
    note_wide_groups(classes, "classes", findings)


def _samples(folder: Path, keys: list[str], matches: Matches, attributes: Attributes) -> pa.Table:
    columns = {"key": keys, "location": [str(folder / path) for path in matches]}
    columns |= {name: [row[name] for row in attributes] for name in attributes[0]}
    return pa.table(columns)


def _labels(keys: list[str], task: str, matches: Matches) -> pa.Table:
    same = {"task": task, "state": "known", "annotator": "import"}
    columns = {
        "key": keys,
        "text": [match["label"] for match in matches.values()],
        "origin": [str(path) for path in matches],
    }
    return pa.table(columns | {name: [value] * len(keys) for name, value in same.items()})
