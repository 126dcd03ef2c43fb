"""WebDataset shards: plain tars in which files of one name, up to the first dot, belong together.

The webdataset package streams samples and does not say where in its tar an image lies, so that it could stay there.
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
from curation.ingest.readers.content_builder import Harvest, Value
from curation.ingest.readers.declared import WebDataset
from curation.ingest.readers.image_paths import EXTENSIONS
from curation.ingest.readers.json_files import parse_json
from curation.ingest.readers.values import value_of

__all__ = ["read_webdataset"]


@dataclass(frozen=True, kw_only=True)
class _Record:
    """The files of one name in a shard: member by what stands behind the first dot, in lower case."""

    stem: str
    shard: Path
    files: Mapping[str, str]

    def read(self, extension: str) -> str:
        """The text of a file."""
        place = member(self.files[extension], str(self.shard))
        try:
            return read_bytes(place).decode()
        except UnicodeDecodeError:
            raise BadInput(f"{self.origin(extension)}: is not UTF-8; write it again") from None

    def origin(self, extension: str) -> str:
        """Where a file stands, for people."""
        return f"{self.shard.name} {self.files[extension]}"


def read_webdataset(folder: Path, declared: WebDataset, *, dataset: str, tasks: Sequence[Task]) -> Content:
    """Read the shards that are declared, from `folder`; `tasks` are the data set's. The images stay in their tars.

    `members` say which files beside an image are labels (a class, or its number), `fields` which fields of its json;
    the other fields of plain values are attributes. Keys are `dataset`/name up to the first dot. NotFound or BadInput
    name the shard and the member.
    """
    by_name = {task.name: task for task in tasks}
    shards = [Path(path) for path in sorted(glob.glob(str(folder.absolute() / declared.shards)))]
    if not shards:
        raise NotFound(f"{folder / declared.shards}: no shard matches; check [reader] shards")
    harvest, found = Harvest(dataset, annotator=declared.annotator, timezone=declared.timezone), False
    for record in (record for shard in shards for record in _records(shard)):
        image = next((extension for extension in record.files if f".{extension}" in EXTENSIONS), None)
        if image is None:
            continue
        found = True
        said = _fields(record)
        attributes = {name: value for name, value in said.items() if name not in declared.fields and _is_plain(value)}
        place = member(record.files[image], str(record.shard))
        key = harvest.sample(record.stem + "." + image, place, attributes, record.origin(image))
        _label(harvest, key, record, said, declared, by_name)
    if not found:
        raise BadInput(
            f"{folder / declared.shards}: the shards hold no image ({', '.join(EXTENSIONS)}); check the path"
        )
    return harvest.content(held_back=declared.held_back)


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
    said = parse_json(record.read("json"), record.origin("json"))
    if not isinstance(said, dict):
        raise BadInput(f"{record.origin('json')}: is no object of fields; write one")
    return {name: value for name, value in said.items() if not name.startswith("__") and name != "key"}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | bool | int | float)


def _label(
    harvest: Harvest, key: str, record: _Record, said: Mapping[str, Any], declared: WebDataset,
    tasks: Mapping[str, Task],
) -> None:  # fmt: skip
    for extension, name in declared.members.items():
        if extension in record.files:
            origin, task = record.origin(extension), tasks[name]
            text = record.read(extension).strip()
            value: Value | list[Any] = int(text) if text.isdecimal() else text
            if task.kind in ("multilabel", "detection"):
                value = parse_json(text, origin)
            harvest.label(key, name, origin=origin, **value_of(task, value, origin))
    for field, name in declared.fields.items():
        if said.get(field) is not None:
            origin = f"{record.origin('json')} {field}"
            harvest.label(key, name, origin=origin, **value_of(tasks[name], said[field], origin))
