"""Settling: which label requests are answered, which nobody could answer, and where a third person is asked."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import pyarrow.compute as pc

from curation.catalog.catalog import Catalog
from curation.catalog.schema import KNOWN, RETRACTED, UNSURE
from curation.catalog.snapshot import Snapshot
from curation.labelstudio.item_cache import Item, ItemCache

__all__ = ["AUTHOR", "THIRD", "Resolution", "close_requests", "said_by_people", "standing"]

AUTHOR: Final = "label-studio"
"""Who commits what people answered there."""

MOST: Final = 3
"""People who are asked for one label at most where they differ: two, and a third."""

THIRD: Final = timedelta(hours=24)
"""How long a third person is waited for; then the label stays unsure."""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Open requests by their ids: all, those that are `answered`, those that all who were asked skipped; and the items
    that one person more is to be asked for, with how many that makes."""

    open: frozenset[int]
    answered: frozenset[int]
    skipped: frozenset[int]
    again: tuple[tuple[Item, int], ...]

    @property
    def waiting(self) -> int:
        """How many requests still wait for people."""
        return len(self.open - self.answered - self.skipped)


def standing(now: Snapshot, mirror: ItemCache, *, clock: datetime, third: timedelta = THIRD) -> Resolution:
    """How the open requests stand at the server's `clock`, given what was taken in from the items of the mirror.

    A request is done when as many people as its item asks for have answered or skipped it. Where they differ, so that
    no label holds, a third is asked first; but when none has come in the time `third`, it is done all the same.
    """
    rows = now.requests("open").select(["request_id", "sample_id", "task"]).to_pylist()
    waiting = {row["request_id"]: (row["task"], row["sample_id"]) for row in rows}
    said = said_by_people(now, {task for task, _ in waiting.values()})
    answered: set[int] = set()
    skipped: set[int] = set()
    again: list[tuple[Item, int]] = []
    for item in mirror.everything():
        asked = [request for request in item.requests.values() if request in waiting]
        differ = any(said.get(waiting[request], (0, False))[1] for request in asked)
        late = differ and bool(item.annotations) and item.answered_at < clock - third
        if not late and len(item.people) < item.overlap:
            continue
        if differ and not late and item.overlap < MOST and not item.gone:
            again.append((item, len(item.people) + 1))
            continue
        for request in asked:
            (answered if said.get(waiting[request], (0, False))[0] else skipped).add(request)
    held = {request for item, _ in again for request in item.requests.values()}
    return Resolution(
        open=frozenset(waiting), answered=frozenset(answered - held), skipped=frozenset(skipped - answered - held),
        again=tuple(again),
    )  # fmt: skip


def close_requests(catalog: Catalog, found: Resolution, *, batch: str | None = None) -> None:
    """Close the requests that are done, in one commit; a `batch` is committed even where there are none."""
    done = len(found.answered) + len(found.skipped)
    if done or batch:
        message = f"people are done with {done} label requests"
        with catalog.commit(author=AUTHOR, message=message, batch=batch) as change:
            change.close_requests(found.answered, state="answered")
            change.close_requests(found.skipped, state="withdrawn")


def said_by_people(now: Snapshot, tasks: Iterable[str]) -> dict[tuple[str, int], tuple[int, bool]]:
    """How many people have a label of (task, sample), and whether they differ so that none holds."""
    found: dict[tuple[str, int], tuple[int, bool]] = {}
    for task in tasks:
        said = now.labels.by_annotator(task)
        said = said.filter(pc.and_(pc.equal(said["source"], "human"), pc.not_equal(said["state"], RETRACTED)))
        labels = now.labels(task)
        unsure = set(labels.filter(pc.equal(labels["state"], UNSURE))["sample_id"].to_pylist())
        states: dict[int, list[int]] = defaultdict(list)
        for sample, state in zip(said["sample_id"].to_pylist(), said["state"].to_pylist(), strict=True):
            states[sample].append(state)
        for sample, each in states.items():
            found[task, sample] = (len(each), len(each) > 1 and sample in unsure and KNOWN in each)
    return found
