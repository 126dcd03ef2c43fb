"""WebDataset shards: plain tars in which the files of one name, up to the first dot, form a sample.

The webdataset package streams samples without the offset of an image in its tar, so images could not stay there.
"""

import glob
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from curation.catalog.tasks import Task
from curation.errors import BadInput, NotFound
from curation.files.locations import member, read_bytes, spans
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.content_builder import ContentBuilder, Value
from curation.ingestion.readers.declared import WebDataset
from curation.ingestion.readers.findings import BadEntry, Findings
from curation.ingestion.readers.image_paths import EXTENSIONS, passed_over
from curation.ingestion.readers.json_files import parse_json
from curation.ingestion.readers.values import value_of

__all__ = ["read_webdataset"]


@dataclass(frozen=True, kw_only=True)
class _Record:
    """The files of one name in a shard: member by the extension after the first dot, in lower case."""

    stem: str
    shard: Path
    files: Mapping[str, str]
    image: str

    def read(self, extension: str) -> str:
        """The text of a file."""
        location = member(self.files[extension], str(self.shard))
        try:
            return read_bytes(location).decode()
        except UnicodeDecodeError:
            raise BadInput(f"{self.origin(extension)}: is not UTF-8; write it again") from None

    def origin(self, extension: str) -> str:
        """The shard and member of a file, for messages."""
        return f"{self.shard.name} {self.files[extension]}"


def read_webdataset(
    folder: Path, declared: WebDataset, *, dataset: str, tasks: Sequence[Task], findings: Findings
) -> Content:
    """Read the declared shards from `folder`; `tasks` are the data set's. The images stay in their tars.

    `members` names the files beside an image that are labels (a class, or its number), `fields` the fields of its json;
    other fields with plain values are attributes. Keys are `dataset`/name up to the first dot; a name with dots
    (22.05.jpg beside 22.05.cls) is read up to its last dot. `image` names the extension of the image where a sample has
    several. NotFound or BadInput name the shard and the member.
    """
    by_name = {task.name: task for task in tasks}
    shards = [Path(path) for path in sorted(glob.glob(str(folder.absolute() / declared.shards)))]
    if not shards:
        raise NotFound(f"{folder / declared.shards}: no shard matches; check [reader] shards")
    builder = ContentBuilder(
        dataset, annotator=declared.annotator, timezone=declared.timezone, unknown=declared.unknown, findings=findings
    )
    passed: Counter[str] = Counter()
    seen: set[str] = set()
    for shard in shards:
        with findings.entry():
            for record in _records(shard, declared, findings, passed):
                with findings.entry():
                    seen |= _add_record(builder, record, declared, by_name)
    findings.note_passed_over(declared.shards, passed)
    findings.note_missing("sample", "field or member", (*declared.fields, *declared.members), seen)
    content = builder.content(held_back=declared.held_back, fractions=bool(declared.fractions))
    if not len(content.samples):
        reasons = f"; members are {', '.join(passed)}" if passed else ""
        raise BadInput(
            f"{folder / declared.shards}: the shards hold no image ({', '.join(EXTENSIONS)}){reasons}; check the path"
        )
    return content


def _add_record(builder: ContentBuilder, record: _Record, declared: WebDataset, tasks: Mapping[str, Task]) -> set[str]:
    """Add a sample; returns the names of its fields and members."""
    fields = _fields(record)
    attributes = {name: value for name, value in fields.items() if name not in declared.fields and _is_plain(value)}
    location = member(record.files[record.image], str(record.shard))
    key = builder.add_image(f"{record.stem}.jpg", location, attributes, record.origin(record.image))
    _label(builder, key, record, fields, declared, tasks)
    return {*fields, *record.files}


def _records(shard: Path, declared: WebDataset, findings: Findings, passed: "Counter[str]") -> Iterator[_Record]:
    """The samples of a shard; `passed` counts the members that are in no sample, by reason."""
    files: dict[str, dict[str, str]] = {}
    for name in spans(str(shard)):
        path = PurePosixPath(name)
        head, dot, extension = path.name.partition(".")
        if not head or not dot:
            passed[passed_over(path.name)] += 1
            continue
        found = files.setdefault(str(path.with_name(head)), {})
        if found.setdefault(extension.lower(), name) != name:
            with findings.entry():
                other = found[extension.lower()]
                raise BadInput(f"{shard.name} {name}: {other} is the same file of the same name; keep one")
    for stem, found in files.items():
        with findings.entry():
            yield from _samples(stem, shard, found, declared, passed)


def _samples(
    stem: str, shard: Path, files: dict[str, str], declared: WebDataset, passed: "Counter[str]"
) -> Iterator[_Record]:
    """The samples among the files of one name up to the first dot: one, or one for each name up to the last dot."""
    images = [extension for extension in files if _is_image(extension)]
    plain = [extension for extension in images if "." not in extension]
    chosen = [extension for extension in images if extension == declared.image.lower()] or plain
    prefixes = {extension.rpartition(".")[0] for extension in images if "." in extension}
    dotted = {prefix for prefix in prefixes if not chosen or _has_own_label(prefix, files, declared)}
    apart: dict[str, dict[str, str]] = {prefix: {} for prefix in sorted(dotted)}
    for extension in list(files):
        prefix, _, last = extension.rpartition(".")
        if prefix in dotted:
            apart[prefix][last] = files.pop(extension)
    if apart and not chosen and any(extension in files for extension in (*declared.members, "json")):
        names = " and ".join(f"{stem}.{prefix}" for prefix in list(apart)[:2])
        rule = f"could be one sample with images of several kinds, or several samples ({names}, ...)"
        raise BadEntry(f"{shard.name} {stem}", "", rule, 'name the image: image = "left.jpg" in [reader]')
    yield from _one_sample(stem, shard, files, chosen, passed)
    for prefix, found in apart.items():
        images = [extension for extension in found if _is_image(extension)]
        yield from _one_sample(f"{stem}.{prefix}", shard, found, images, passed)


def _one_sample(
    stem: str, shard: Path, files: dict[str, str], images: list[str], passed: "Counter[str]"
) -> Iterator[_Record]:
    if not images:
        for extension in files:
            passed[passed_over(f"x.{extension.rpartition('.')[2]}")] += 1
        return
    others = sum(_is_image(extension) for extension in files) - 1
    if others:
        passed["further image of its sample"] += others
    yield _Record(stem=stem, shard=shard, files=files, image=images[0])


def _has_own_label(prefix: str, files: Mapping[str, str], declared: WebDataset) -> bool:
    """Whether the files NAME.PREFIX.* are a sample of their own: an image, and a label or a json."""
    own = {extension.rpartition(".")[2] for extension in files if extension.rpartition(".")[0] == prefix}
    labelled = any(extension in own for extension in (*declared.members, "json"))
    return labelled and any(_is_image(extension) for extension in own)


def _is_image(extension: str) -> bool:
    return f".{extension.rpartition('.')[2]}" in EXTENSIONS


def _fields(record: _Record) -> dict[str, Any]:
    if "json" not in record.files:
        return {}
    fields = parse_json(record.read("json"), record.origin("json"))
    if not isinstance(fields, dict):
        raise BadInput(f"{record.origin('json')}: is not an object of fields; write one")
    return {name: value for name, value in fields.items() if not name.startswith("__") and name != "key"}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | bool | int | float)


def _label(
    builder: ContentBuilder, key: str, record: _Record, fields: Mapping[str, Any], declared: WebDataset,
    tasks: Mapping[str, Task],
) -> None:  # fmt: skip
    for extension, name in declared.members.items():
        if extension in record.files:
            origin, task = record.origin(extension), tasks[name]
            text = record.read(extension).strip()
            value: Value | list[Any] = int(text) if text.isdecimal() else text
            if task.kind in ("multilabel", "detection"):
                value = parse_json(text, origin)
            builder.add_label(key, name, origin=origin, **value_of(task, value, origin))
    for field, name in declared.fields.items():
        if fields.get(field) is not None:
            origin = f"{record.origin('json')} {field}"
            builder.add_label(key, name, origin=origin, **value_of(tasks[name], fields[field], origin))
