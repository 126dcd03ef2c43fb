"""Images in folders that are named after their class: `dataset_train/yellow/0717438a.jpg`."""

import re
from pathlib import Path, PurePosixPath

import pyarrow as pa

from curation.errors import BadInput, NotFound
from curation.ingest.readers.content import Content
from curation.ingest.readers.image_paths import EXTENSIONS, images_in, plain
from curation.ingest.readers.path_pattern import attributes_of, form_of

__all__ = ["read_class_folders"]

_DEEP = 32  # how deep to look for an example when nothing matched: links may form a cycle


def read_class_folders(folder: Path, *, pattern: str, task: str, dataset: str, held_back: bool) -> Content:
    """Read the images whose path below `folder`, without its extension, matches `pattern`.

    In a pattern such as "dataset_{attr:published_split}/{label}/{name}", `{label}` is the class, `{name}` distinguishes
    files, and `{attr:NAME}` becomes the string attribute NAME; each stands for (part of) the name of one folder or
    file. Keys are `dataset`/path, without extension. Hidden files and files that are no images are passed over.
    All labels go to the content's `held_back` if `held_back` is true, otherwise to its `labels`.
    Raises `NotFound` without the folder, `BadInput` for a bad pattern, no match, or two files of one key.
    """
    form = form_of(pattern, needs=("label", "name"))
    if not folder.is_dir():
        raise NotFound(f"{folder}: no such folder; check the path or fetch the data set again")
    found = {path: form.fullmatch(_stem(path)) for path in sorted(images_in(folder, depth=pattern.count("/")))}
    matches = {path: match for path, match in found.items() if match}
    if not matches:
        raise BadInput(_nothing_matched(folder, pattern))
    keys = _keys(dataset, list(matches))
    labels = _labels(keys, task, matches)
    return Content.of(_samples(folder.absolute(), keys, matches), labels, held_back=held_back)


def _stem(path: PurePosixPath) -> str:
    return str(path.with_suffix(""))


def _nothing_matched(folder: Path, pattern: str) -> str:
    seen = next(images_in(folder, _DEEP), None)
    if seen is None:
        return f"{folder}: holds no image ({', '.join(EXTENSIONS)}); check the path"
    return f"{folder}: no image matches {pattern!r}, for example {_stem(seen)!r} does not; correct the pattern"


def _keys(dataset: str, paths: list[PurePosixPath]) -> list[str]:
    """One key for each path, in order; two paths with one key (red/1.jpg and red/1.png) are refused."""
    owners: dict[str, PurePosixPath] = {}
    for path in paths:
        key = plain(f"{dataset}/{_stem(path)}")
        if key in owners:
            raise BadInput(f"{path} and {owners[key]}: both would have the key {key!r}; rename one of them")
        owners[key] = path
    return list(owners)


def _samples(folder: Path, keys: list[str], matches: dict[PurePosixPath, re.Match[str]]) -> pa.Table:
    columns = {"key": keys, "location": [str(folder / path) for path in matches]}
    attributes = [attributes_of(match) for match in matches.values()]
    columns |= {name: [row[name] for row in attributes] for name in attributes[0]}
    return pa.table(columns)


def _labels(keys: list[str], task: str, matches: dict[PurePosixPath, re.Match[str]]) -> pa.Table:
    same = {"task": task, "state": "known", "annotator": "import"}
    columns = {
        "key": keys,
        "text": [match["label"] for match in matches.values()],
        "origin": [str(path) for path in matches],
    }
    return pa.table(columns | {name: [value] * len(keys) for name, value in same.items()})
