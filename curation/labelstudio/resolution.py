"""Resolution: which label requests are answered, which everybody skipped, and which items need a third person."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from curation.analysis.disputes import human_votes
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.labelstudio.item_cache import Item, ItemCache

__all__ = ["AUTHOR", "THIRD", "Resolution", "close_requests", "resolve"]

AUTHOR: Final = "label-studio"
"""The author of commits that add people's answers."""

MOST: Final = 3
"""Largest number of people asked for one label when they disagree: two, and a third."""

THIRD: Final = timedelta(hours=24)
"""How long to wait for a third person; after that the label stays unsure."""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """The ids of open requests: all of them, the `answered` ones, and those that everybody `skipped`.

    `again` lists the items that need another annotator, with their new overlap.
    """

    open: frozenset[int]
    answered: frozenset[int]
    skipped: frozenset[int]
    again: tuple[tuple[Item, int], ...]

    @property
    def waiting(self) -> int:
        """How many requests still wait for people."""
        return len(self.open - self.answered - self.skipped)


def resolve(now: Snapshot, cache: ItemCache, *, clock: datetime, third: timedelta = THIRD) -> Resolution:
    """Resolve the open requests, given the answers already in the catalog and the server's time `clock`.

    A request is done when as many people as its item's overlap have answered or skipped it. If they disagree so that
    no label holds, a third person is asked first. If none answers within `third`, the request is done.
    """
    rows = now.requests("open").select(["request_id", "sample_id", "task"]).to_pylist()
    waiting = {row["request_id"]: (row["task"], row["sample_id"]) for row in rows}
    votes = human_votes(now, {task for task, _ in waiting.values()})
    answered: set[int] = set()
    skipped: set[int] = set()
    again: list[tuple[Item, int]] = []
    for item in cache.with_deleted():
        requests = [request for request in item.requests.values() if request in waiting]
        disagree = any(votes.get(waiting[request], (0, False))[1] for request in requests)
        late = disagree and bool(item.annotations) and item.answered_at < clock - third
        if not late and len(item.people) < item.overlap:
            continue
        if disagree and not late and item.overlap < MOST and not item.gone:
            again.append((item, len(item.people) + 1))
            continue
        for request in requests:
            (answered if votes.get(waiting[request], (0, False))[0] else skipped).add(request)
    held = {request for item, _ in again for request in item.requests.values()}
    return Resolution(
        open=frozenset(waiting), answered=frozenset(answered - held), skipped=frozenset(skipped - answered - held),
        again=tuple(again),
    )  # fmt: skip


def close_requests(catalog: Catalog, found: Resolution, *, batch: str | None = None) -> None:
    """Close the finished requests in one commit; with a `batch` id, commit even when there are none."""
    done = len(found.answered) + len(found.skipped)
    if done or batch:
        message = f"people are done with {done} label requests"
        with catalog.commit(author=AUTHOR, message=message, batch=batch) as change:
            change.close_requests(found.answered, state="answered")
            change.close_requests(found.skipped, state="withdrawn")
