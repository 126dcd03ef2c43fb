"""Images that lie in folders named by their class: `dataset_train/yellow/0717438a.jpg`."""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pyarrow as pa

from curation.errors import BadInput, NotFound
from curation.readers.content import LABELS, Content

__all__ = ["read_class_folders"]

_EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_ATTRIBUTE = re.compile(r"attr:([a-z][a-z0-9_]*)")
_TAKEN = {"key", "location", "captured_at"}
_DEEP = 32  # how far to look for an example when nothing matched: links may go round in circles


def read_class_folders(folder: Path, *, pattern: str, task: str, dataset: str, held_back: bool) -> Content:
    """Read the images whose path below `folder`, without its extension, has the form of `pattern`.

    In a pattern such as "dataset_{attr:published_split}/{label}/{name}", `{label}` is the class, `{name}` is
    what tells files apart and `{attr:NAME}` becomes the string attribute NAME; each stands for (part of) the
    name of one folder or file. Keys are `dataset`/path, without extension. Hidden files and what is no image
    are passed over.
    All labels go to the content's `held_back` if `held_back` is true, otherwise to its `labels`.
    Raises `NotFound` without the folder, `BadInput` for a bad pattern, no match, or two files of one key.
    """
    form = _form(pattern)
    if not folder.is_dir():
        raise NotFound(f"{folder}: no such folder; check the path or fetch the data set again")
    found = {path: form.fullmatch(_stem(path)) for path in sorted(_images(folder, depth=pattern.count("/")))}
    matches = {path: match for path, match in found.items() if match}
    if not matches:
        raise BadInput(_nothing_matched(folder, pattern))
    keys = _keys(dataset, list(matches))
    known = _labels(keys, task, [match["label"] for match in matches.values()])
    return Content(
        samples=_samples(folder.absolute(), keys, matches),
        labels=LABELS.empty_table() if held_back else known,
        held_back=known if held_back else LABELS.empty_table(),
    )


def _form(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern; groups are `label`, `name` and `attr_NAME` for each attribute."""
    pieces = _PLACEHOLDER.split(pattern)
    literals, groups = pieces[::2], [_group(name, pattern) for name in pieces[1::2]]
    if any(brace in literal for literal in literals for brace in "{}"):
        raise BadInput(f"pattern {pattern!r}: a brace has no partner; write {{label}}, {{name}} or {{attr:NAME}}")
    for group in {*groups, "label", "name"}:
        if groups.count(group) != 1:
            raise BadInput(f"pattern {pattern!r}: has {groups.count(group)} times {group}; write it once")
    parts = [f"(?P<{group}>[^/]+?)" for group in groups] + [""]
    return re.compile("".join(re.escape(literal) + part for literal, part in zip(literals, parts, strict=True)))


def _group(placeholder: str, pattern: str) -> str:
    if placeholder in ("label", "name"):
        return placeholder
    attribute = _ATTRIBUTE.fullmatch(placeholder)
    if attribute is None:
        rule = "write {label}, {name} or {attr:NAME} with a lower-case NAME"
        raise BadInput(f"pattern {pattern!r}: {{{placeholder}}} is unknown; {rule}")
    if attribute[1] in _TAKEN:
        raise BadInput(f"pattern {pattern!r}: {attribute[1]} is reserved; give the attribute another name")
    return f"attr_{attribute[1]}"


def _images(folder: Path, depth: int) -> Iterator[PurePosixPath]:
    """Paths of images relative to `folder`, at most `depth` folders down, links followed."""
    for root, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        here = PurePosixPath(Path(root).relative_to(folder).as_posix())
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if len(here.parts) < depth else []
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in _EXTENSIONS and not name.startswith("."):
                yield _checked(here / name)


def _refuse(error: OSError) -> None:
    raise BadInput(f"{error.filename}: cannot be read ({error.strerror}); check its permissions") from error


def _checked(path: PurePosixPath) -> PurePosixPath:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"{str(path)!a}: a file name must be UTF-8; rename it") from error
    return path


def _stem(path: PurePosixPath) -> str:
    return str(path.with_suffix(""))


def _nothing_matched(folder: Path, pattern: str) -> str:
    seen = next(_images(folder, _DEEP), None)
    if seen is None:
        return f"{folder}: holds no image ({', '.join(sorted(_EXTENSIONS))}); check the path"
    return f"{folder}: no image matches {pattern!r}, for example {_stem(seen)!r} does not; mend the pattern"


def _keys(dataset: str, paths: list[PurePosixPath]) -> list[str]:
    """One key a path, in order; refused where two paths share one (as red/1.jpg and red/1.png do)."""
    owners: dict[str, PurePosixPath] = {}
    for path in paths:
        key = _key(f"{dataset}/{_stem(path)}")
        if key in owners:
            raise BadInput(f"{path} and {owners[key]}: both would have the key {key!r}; rename one of them")
        owners[key] = path
    return list(owners)


def _key(name: str) -> str:
    """Every other byte of UTF-8 becomes - and its two hexadecimal digits."""
    return re.sub(rb"[^A-Za-z0-9_/-]", lambda byte: b"-%02X" % byte[0][0], name.encode()).decode()


def _samples(folder: Path, keys: list[str], matches: dict[PurePosixPath, re.Match[str]]) -> pa.Table:
    groups = next(iter(matches.values())).re.groupindex
    columns = {"key": keys, "location": [str(folder / path) for path in matches]}
    for group in groups:
        if group.startswith("attr_"):
            columns[group.removeprefix("attr_")] = [match[group] for match in matches.values()]
    return pa.table(columns)


def _labels(keys: list[str], task: str, classes: list[str]) -> pa.Table:
    rows = [
        {"key": key, "task": task, "state": "known", "text": text, "annotator": "import"}
        for key, text in zip(keys, classes, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=LABELS)
