"""WebDataset shards: plain tars in which the files of one name, up to the first dot, form a sample.

The webdataset package streams samples without the offset of an image in its tar, so images could not stay there.
"""

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from curation.catalog.tasks import Task
from curation.errors import BadInput, NotFound
from curation.files.locations import member, read_bytes, spans
from curation.ingest.readers.content import Content
from curation.ingest.readers.content_builder import ContentBuilder, Value
from curation.ingest.readers.declared import WebDataset
from curation.ingest.readers.image_paths import EXTENSIONS
from curation.ingest.readers.json_files import parse_json
from curation.ingest.readers.values import value_of

__all__ = ["read_webdataset"]


@dataclass(frozen=True, kw_only=True)
class _Record:
    """The files of one name in a shard: member by the extension after the first dot, in lower case."""

    stem: str
    shard: Path
    files: Mapping[str, str]

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


def read_webdataset(folder: Path, declared: WebDataset, *, dataset: str, tasks: Sequence[Task]) -> Content:
    """Read the declared shards from `folder`; `tasks` are the data set's. The images stay in their tars.

    `members` names the files beside an image that are labels (a class, or its number), `fields` the fields of its json;
    other fields with plain values are attributes. Keys are `dataset`/name up to the first dot. NotFound or BadInput
    name the shard and the member.
    """
    by_name = {task.name: task for task in tasks}
    shards = [Path(path) for path in sorted(glob.glob(str(folder.absolute() / declared.shards)))]
    if not shards:
        raise NotFound(f"{folder / declared.shards}: no shard matches; check [reader] shards")
    builder, found = ContentBuilder(dataset, annotator=declared.annotator, timezone=declared.timezone), False
    for record in (record for shard in shards for record in _records(shard)):
        image = next((extension for extension in record.files if f".{extension}" in EXTENSIONS), None)
        if image is None:
            continue
        found = True
        fields = _fields(record)
        attributes = {name: value for name, value in fields.items() if name not in declared.fields and _is_plain(value)}
        location = member(record.files[image], str(record.shard))
        key = builder.add_image(record.stem + "." + image, location, attributes, record.origin(image))
        _label(builder, key, record, fields, declared, by_name)
    if not found:
        raise BadInput(
            f"{folder / declared.shards}: the shards hold no image ({', '.join(EXTENSIONS)}); check the path"
        )
    return builder.content(held_back=declared.held_back)


def _records(shard: Path) -> Iterator[_Record]:
    files: dict[str, dict[str, str]] = {}
    for name in spans(str(shard)):
        path = PurePosixPath(name)
        head, dot, extension = path.name.partition(".")
        if head and dot:
            found = files.setdefault(str(path.with_name(head)), {})
            if found.setdefault(extension.lower(), name) != name:
                raise BadInput(
                    f"{shard.name} {name}: {found[extension.lower()]} is the same file of the same name; keep one"
                )
    for stem, found in files.items():
        yield _Record(stem=stem, shard=shard, files=found)


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
