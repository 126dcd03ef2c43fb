"""What lies on the server, as it was last seen: the mirror, a file that may be lost without harm.

A read of the server costs what changed there since. The mirror keeps the time of the newest change that it has seen, on
the server's own clock. A change becomes visible only some time after the moment with which it is stamped, so it is read
again from a little before that; not any more once a read a minute later has brought what was late.
"""

import json
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from curation.files.atomic import whole
from curation.labelstudio.client import Json, LabelStudioClient
from curation.labelstudio.label_config import KEY

__all__ = ["OVERLAP", "Item", "ItemCache", "Reach", "forget_items", "moment"]

OVERLAP: Final = timedelta(seconds=60)
"""How late a change may become visible: longer than any write on the server takes."""

SKEW: Final = timedelta(seconds=5)
"""The clock tells whole seconds, and our question takes time."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item of ours: the sample that it shows, the label request of each task that it asks for, and what came back.

    `gold` names the tasks of which the answer is known; then there are no requests. The URL of its image ends at
    `until` (seconds since 1970; 0: never). `annotations` are the server's, as it tells them; `taken` is the `state`
    whose annotations are in the catalog. An item that is `gone` was deleted there, or another item took its id.
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
    taken: str = ""
    gone: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it asks for."""
        return (*self.requests, *self.gold)

    @property
    def people(self) -> set[Any]:
        """Who is done with it: answered, or skipped it."""
        return {annotation.get("completed_by") for annotation in self.annotations}

    @property
    def state(self) -> str:
        """What tells whether anything changed. Not `updated_at` alone: the server reads items first, then annotations,
        and one that was saved in between comes with a time that was seen before."""
        told = (f"{annotation.get('id')} {annotation.get('updated_at')}" for annotation in self.annotations)
        return "; ".join((self.updated_at, *told))

    @property
    def answered_at(self) -> datetime:
        """When it was last answered, or an answer last changed; it has one."""
        return max(moment(str(annotation.get("updated_at") or self.updated_at)) for annotation in self.annotations)


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far a project has been read, in times of the server: to its `newest` change, and with all changes up to
    `sure`. `mark` was the newest at `marked` (seconds since 1970, our clock): once that is `OVERLAP` ago, a read brings
    all up to it."""

    newest: str = ""
    sure: str = ""
    mark: str = ""
    marked: float = 0.0

    def after(self, newest: str, began: float, ended: float) -> "Reach":
        """How far it has been read by a read that took from `began` to `ended` and saw `newest`."""
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
        """The commit at which its items were last held against the samples that the catalog knows."""
        self._items: dict[tuple[int, int], Item] = {}
        self._gone: dict[tuple[int, int, str], Item] = {}

    @classmethod
    def open(cls, path: Path, server: str) -> "ItemCache":
        """The mirror that `path` keeps of `server`; an empty one when it keeps none, or is not to be read."""
        mirror = cls(path, server)
        try:
            data = json.loads(path.read_text())
            if data["server"] == server:
                mirror.reach = {int(project): Reach(**reach) for project, reach in data["reach"].items()}
                mirror.commit = int(data["commit"])
                for row in data["items"]:
                    mirror._keep(Item(**{**row, "gold": tuple(row["gold"])}))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path, server)
        return mirror

    def save(self) -> None:
        """Write the mirror down, whole or not at all."""
        reach = {project: vars(reach) for project, reach in self.reach.items()}
        items = [vars(item) for item in self.everything()]
        data = {"server": self.server, "commit": self.commit, "reach": reach, "items": items}
        with whole(self.path) as part:
            part.write_text(json.dumps(data, separators=(",", ":")))

    def everything(self) -> Iterator[Item]:
        """All items, with those that are gone."""
        yield from self._items.values()
        yield from self._gone.values()

    def items(self) -> Iterable[Item]:
        """Items that are there."""
        return self._items.values()

    def of_samples(self, samples: Collection[str]) -> list[Item]:
        """Items of these samples, by id, with those that are gone."""
        return sorted((item for item in self.everything() if item.sample in samples), key=lambda item: item.item)

    def take(self, items: Iterable[Item]) -> None:
        """Note that what `items` hold is in the catalog."""
        for item in items:
            self._keep(replace(item, taken=item.state))

    def refresh(self, server: LabelStudioClient, project: Json) -> None:
        """Read what changed in a project."""
        id_ = int(project["id"])
        reach = self.reach.get(id_, Reach())
        if reach.newest and moment(reach.newest) > server.clock() + SKEW:
            reach = Reach()  # the server's clock was put back: what it stamps now would never be newer
        began = time.time()
        newest = self._read(server, id_, reach.sure) or reach.newest
        self.reach[id_] = reach.after(newest, began, time.time())
        if self._count(id_) != int(project["task_number"]):
            self._recount(server, id_)

    def forget(self, project: int) -> None:
        """A project is gone: its items are, and their answers stay known."""
        for item in [item for item in self._items.values() if item.project == project]:
            self._drop(item)
        self.reach.pop(project, None)

    def drop(self, item: Item) -> None:
        """An item was deleted."""
        self._drop(item)

    def erase(self, item: Item) -> None:
        """Keep nothing of an item."""
        if item.gone:
            del self._gone[item.project, item.item, item.key]
        else:
            del self._items[item.project, item.item]

    def _read(self, server: LabelStudioClient, project: int, since: str) -> str:
        """Read changes after `since`; returns the time of the newest."""
        newest = ""
        for page in server.changed_items(project, since):
            for told in page:
                item = _item(project, told)
                if item is not None:
                    known = self._items.get((project, item.item))
                    self._keep(item if known is None or known.key != item.key else replace(item, taken=known.taken))
            newest = str(page[-1]["updated_at"])
        return newest

    def _recount(self, server: LabelStudioClient, project: int) -> None:
        """Find which items are gone, and read everything when there are others that were never seen."""
        present = server.keys(project, KEY)
        for item in [item for item in self._items.values() if item.project == project]:
            if present.get(item.item) != item.key:
                self._drop(item)
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
        if before is not None and before.key != item.key:  # SQLite gives the id of a deleted item to a new one
            self._drop(before)
        self._items[item.project, item.item] = item

    def _drop(self, item: Item) -> None:
        del self._items[item.project, item.item]
        if item.annotations or item.taken:
            self._gone[item.project, item.item, item.key] = replace(item, gone=True)


def forget_items(home: Path, key: str) -> tuple[str, ...]:
    """Delete the mirrors of a workspace; returns the servers on which items of the sample `key` lie, until the next
    push or pull there."""
    found = []
    for path in sorted((home / "labeling").glob("[0-9a-f]" * 12 + ".json")):
        with suppress(ValueError, KeyError, TypeError):  # one that is not to be read says nothing, and goes too
            data = json.loads(path.read_text())
            found += [str(data["server"])] if any(row["sample"] == key for row in data["items"]) else []
        path.unlink()
    return tuple(found)


def moment(text: str) -> datetime:
    """A time as the server writes it, in UTC without a zone."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=None)


def _before(newest: str) -> str:
    return (moment(newest) - OVERLAP).isoformat() + "Z" if newest else ""


def _latest(one: str, other: str) -> str:
    return max(one, other, key=lambda text: moment(text) if text else datetime.min)


def _item(project: int, told: Json) -> Item | None:
    """An item of ours; None for one that somebody else put there."""
    ours, key = (told.get("meta") or {}).get("amber"), (told.get("data") or {}).get(KEY)
    if not isinstance(ours, dict) or not isinstance(key, str) or not isinstance(ours.get("sample"), str):
        return None
    return Item(
        project=project, item=int(told["id"]), key=key, sample=ours["sample"],
        requests={str(task): int(request) for task, request in (ours.get("requests") or {}).items()},
        gold=tuple(ours.get("gold") or ()), overlap=int(told.get("overlap") or 1), until=float(ours.get("until") or 0),
        updated_at=str(told["updated_at"]), annotations=list(told.get("annotations") or []),
    )  # fmt: skip
