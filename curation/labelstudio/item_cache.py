"""The item cache: the server's items as last seen, in a file that may be lost without harm.

A refresh reads only what changed on the server since the last one. The cache keeps the time of the newest change that
it has seen, on the server's clock. A change becomes visible some time after its time stamp, so a refresh starts
`OVERLAP` before the newest change. It stops doing so once a read at least `OVERLAP` later has returned late changes.
"""

import json
import re
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from curation.files.atomic import whole
from curation.files.read_back import json_value
from curation.labelstudio.client import Json, LabelStudioClient
from curation.labelstudio.label_config import ASSIGNED, KEY, MODEL

__all__ = ["OVERLAP", "Item", "ItemCache", "Reach", "forget_items", "items_left", "moment", "named_people"]

OVERLAP: Final = timedelta(seconds=60)
"""Longest delay between a change's time stamp and its visibility: longer than any write on the server takes."""

SKEW: Final = timedelta(seconds=5)
"""Tolerance of clock comparisons: the server's clock has whole seconds, and a request takes time."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One of our items: its sample, its label request by task, and its annotations.

    `gold` names the tasks with a known answer; a gold item has no requests. The URL of its image expires at `until`
    (seconds since 1970; 0: never). `views` are the fields of its data that hold the model's view. `assigned` are the
    people who are asked (none: everybody), `instructions` has the version of each task's instructions, `reasons` why
    each label was requested, and `priority` the item's place in the queue. `annotations` are the server's JSON. `taken`
    is the `state` whose annotations are in the catalog. `gone`: the item was deleted on the server, or its id was
    reused.
    """

    project: int
    item: int
    key: str
    sample: str
    requests: dict[str, int]
    gold: tuple[str, ...] = ()
    overlap: int = 1
    until: float = 0.0
    updated_at: str = ""
    annotations: list[Json] = field(default_factory=list)
    views: dict[str, str] = field(default_factory=dict)
    assigned: tuple[str, ...] = ()
    instructions: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    priority: int = 0
    taken: str = ""
    gone: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        """The requested tasks."""
        return (*self.requests, *self.gold)

    @property
    def people(self) -> set[Any]:
        """Ids of the users who answered or skipped it."""
        return {annotation.get("completed_by") for annotation in self.annotations}

    @property
    def unfinished(self) -> bool:
        """Whether more people are asked."""
        return len(self.people) < self.overlap

    @property
    def state(self) -> str:
        """A text that changes whenever the item or an annotation changes.

        `updated_at` alone does not suffice: the server reads items first, then annotations, so an annotation that is
        saved in between arrives with an `updated_at` that was seen before.
        """
        versions = (f"{annotation.get('id')} {annotation.get('updated_at')}" for annotation in self.annotations)
        return "; ".join((self.updated_at, *versions))

    @property
    def answered_at(self) -> datetime:
        """When an annotation was last added or changed; the item must have one."""
        return max(moment(str(annotation.get("updated_at") or self.updated_at)) for annotation in self.annotations)


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far a project has been read.

    `newest` is the time of its newest change seen, and every change up to `sure` has been seen (both on the server's
    clock). `mark` was the newest change at `marked` (seconds since 1970, our clock): a read that starts `OVERLAP`
    after `marked` returns every change up to `mark`.
    """

    newest: str = ""
    sure: str = ""
    mark: str = ""
    marked: float = 0.0

    def after(self, newest: str, began: float, ended: float) -> "Reach":
        """The reach after a read from `began` to `ended` (seconds since 1970, our clock) that saw `newest`."""
        sure, waited = _latest(self.sure, _before(newest)), began - self.marked
        if 0 <= waited < OVERLAP.total_seconds():
            return replace(self, newest=newest, sure=sure)
        if waited > 0:  # our clock was not put back
            sure = _latest(sure, self.mark)
        return Reach(newest=newest, sure=sure, mark=newest, marked=ended)


class ItemCache:
    """The items of one workspace on one server."""

    def __init__(self, path: Path, server: str) -> None:
        self.path = path
        self.server = server
        self.reach: dict[int, Reach] = {}
        self.commit = -1
        """The commit whose samples the items were last compared with."""
        self._items: dict[tuple[int, int], Item] = {}
        self._gone: dict[tuple[int, int, str], Item] = {}

    @classmethod
    def open(cls, path: Path, server: str) -> "ItemCache":
        """Load the cache of `server` from `path`; empty when the file is missing, unreadable or of another server."""
        cache = cls(path, server)
        try:
            data = json_value(path.read_text())
            if data["server"] == server:
                cache.reach = {int(project): Reach(**reach) for project, reach in data["reach"].items()}
                cache.commit = int(data["commit"])
                for row in data["items"]:
                    names = {name: tuple(row.get(name, ())) for name in ("gold", "assigned")}
                    cache._keep(Item(**{**row, **names}))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path, server)
        return cache

    def save(self) -> None:
        """Write the cache to its file, atomically."""
        reach = {project: vars(reach) for project, reach in self.reach.items()}
        items = [vars(item) for item in self.with_deleted()]
        data = {"server": self.server, "commit": self.commit, "reach": reach, "items": items}
        with whole(self.path) as part:
            part.write_text(json.dumps(data, separators=(",", ":")))

    def with_deleted(self) -> Iterator[Item]:
        """All items, deleted ones included."""
        yield from self._items.values()
        yield from self._gone.values()

    def items(self) -> Iterable[Item]:
        """Items that exist on the server."""
        return self._items.values()

    def of_samples(self, samples: Collection[str]) -> list[Item]:
        """Items of these samples by id, deleted ones included."""
        return sorted((item for item in self.with_deleted() if item.sample in samples), key=lambda item: item.item)

    def mark_taken(self, items: Iterable[Item]) -> None:
        """Record that the annotations of `items` are in the catalog."""
        for item in items:
            self._keep(replace(item, taken=item.state))

    def refresh(self, server: LabelStudioClient, project: Json) -> None:
        """Read the changes of a project."""
        id_ = int(project["id"])
        reach = self.reach.get(id_, Reach())
        if reach.newest and moment(reach.newest) > server.clock() + SKEW:
            reach = Reach()  # the server's clock was set back: its new time stamps would never be newer
        began = time.time()
        newest = self._read(server, id_, reach.sure) or reach.newest
        self.reach[id_] = reach.after(newest, began, time.time())
        if self._count(id_) != int(project["task_number"]):
            self._recount(server, id_)

    def drop_project(self, project: int) -> None:
        """Record that a project was deleted with its items; their answers stay known."""
        for item in [item for item in self._items.values() if item.project == project]:
            self.drop(item)
        self.reach.pop(project, None)

    def drop(self, item: Item) -> None:
        """Record that an item was deleted; one with annotations is kept as `gone`."""
        del self._items[item.project, item.item]
        if item.annotations or item.taken:
            self._gone[item.project, item.item, item.key] = replace(item, gone=True)

    def erase(self, item: Item) -> None:
        """Remove every trace of an item."""
        if item.gone:
            del self._gone[item.project, item.item, item.key]
        else:
            del self._items[item.project, item.item]

    def _read(self, server: LabelStudioClient, project: int, since: str) -> str:
        """Read the changes after `since`; returns the time of the newest one."""
        newest = ""
        for page in server.changed_items(project, since):
            for row in page:
                item = _item(project, row)
                if item is not None:
                    known = self._items.get((project, item.item))
                    self._keep(item if known is None or known.key != item.key else replace(item, taken=known.taken))
            newest = str(page[-1]["updated_at"])
        return newest

    def _recount(self, server: LabelStudioClient, project: int) -> None:
        """Find deleted items; read the whole project again when it holds items of ours that were never seen."""
        present = server.keys(project, KEY)
        for item in [item for item in self._items.values() if item.project == project]:
            if present.get(item.item) != item.key:
                self.drop(item)
        known = {item.item for item in self._items.values() if item.project == project}
        if any(key and item not in known for item, key in present.items()):
            self._read(server, project, "")

    def _count(self, project: int) -> int:
        return sum(item.project == project for item in self._items.values())

    def _keep(self, item: Item) -> None:
        if item.gone:
            self._gone[item.project, item.item, item.key] = item
            return
        before = self._items.get((item.project, item.item))
        if before is not None and before.key != item.key:  # SQLite reuses the id of a deleted item
            self.drop(before)
        self._items[item.project, item.item] = item


def forget_items(home: Path, key: str) -> tuple[str, ...]:
    """Delete the item caches of a workspace.

    Returns the servers that still hold items of the sample `key`; the next push or pull there deletes these.
    """
    found = []
    for path in sorted((home / "labeling").glob("[0-9a-f]" * 12 + ".json")):
        with suppress(ValueError, KeyError, TypeError):  # an unreadable cache names no server, and is deleted too
            data = json_value(path.read_text())
            found += [str(data["server"])] if any(row["sample"] == key for row in data["items"]) else []
        path.unlink()
    return tuple(found)


def items_left(home: Path) -> dict[str, int]:
    """How many items ask somebody about each task that was ever asked, by the item caches of a workspace.

    They are as of the last push or pull.
    """
    left: dict[str, int] = {}
    for path in sorted((home / "labeling").glob("[0-9a-f]" * 12 + ".json")):
        try:
            server = str(json_value(path.read_text())["server"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # an unreadable cache is read again by the next pull
        for item in ItemCache.open(path, server).with_deleted():
            for task in item.requests:
                left[task] = left.get(task, 0) + (item.unfinished and not item.gone)
    return left


def moment(text: str) -> datetime:
    """Parse a time of the server's JSON as UTC without a zone."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=None)


def named_people(text: str) -> tuple[str, ...]:
    """The people in the field `ASSIGNED` of an item's data.

    >>> named_people("<ann@example.org> <bob@example.org>")
    ('ann@example.org', 'bob@example.org')
    """
    return tuple(re.findall(r"<([^<>]+)>", text))


def _before(newest: str) -> str:
    return (moment(newest) - OVERLAP).isoformat() + "Z" if newest else ""


def _latest(one: str, other: str) -> str:
    return max(one, other, key=lambda text: moment(text) if text else datetime.min)


def _item(project: int, row: Json) -> Item | None:
    """Parse one of our items; None for an item that somebody else imported."""
    data = row.get("data") or {}
    ours, key = (row.get("meta") or {}).get("amber"), data.get(KEY)
    if not isinstance(ours, dict) or not isinstance(key, str) or not isinstance(ours.get("sample"), str):
        return None
    return Item(
        project=project, item=int(row["id"]), key=key, sample=ours["sample"],
        requests={str(task): int(request) for task, request in (ours.get("requests") or {}).items()},
        gold=tuple(ours.get("gold") or ()), overlap=int(row.get("overlap") or 1), until=float(ours.get("until") or 0),
        updated_at=str(row["updated_at"]), annotations=list(row.get("annotations") or []),
        views={name: str(text) for name, text in data.items() if name.startswith(MODEL)},
        assigned=named_people(str(data.get(ASSIGNED) or "")),
        instructions={str(task): int(version) for task, version in (ours.get("instructions") or {}).items()},
        reasons={str(task): str(reason) for task, reason in (ours.get("reasons") or {}).items()},
        priority=int(ours.get("priority") or 0),
    )  # fmt: skip
