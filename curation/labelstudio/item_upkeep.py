"""Upkeep of the items on the server: image URLs, people, instructions, settled disputes, duplicates."""

import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Set
from typing import Final

from curation.catalog.catalog import Catalog
from curation.catalog.people import NO_INSTRUCTIONS, Instructions
from curation.labelstudio.assigning import Assigner, add_views
from curation.labelstudio.item_cache import Item
from curation.labelstudio.items import by_key, item_data, meta
from curation.labelstudio.session import Session
from curation.labelstudio.shown_images import ShownImages, UrlFor

__all__ = ["add_person_views", "end_settled", "remove_duplicates", "remove_outdated", "update_items"]

REMOVED_AT_ONCE: Final = 100
"""Items that are deleted before the server is read again."""


def update_items(
    session: Session, catalog: Catalog, assigner: Assigner, url_for: UrlFor, until: float
) -> tuple[int, int]:
    """Give a new URL to each unfinished item whose own has less than half as long left as a new one, and other people
    to each that needs them, the most urgent first; returns how many of either."""
    half = (time.time() + until) / 2
    unfinished = sorted((item for item in session.cache.items() if item.unfinished), key=lambda item: item.priority)
    asked = [(item, assigner.again(item)) for item in unfinished]
    stale = [(item, people) for item, people in asked if 0 < item.until < half or people != item.assigned]
    if not stale:
        return 0, 0
    with catalog.read() as now:
        rows, shown = by_key(now.samples(), {item.sample for item, _ in stale}), ShownImages(now, url_for)
    stale = [(item, people) for item, people in stale if item.sample in rows]
    for item, people in stale:
        data = item_data(shown.fields(rows[item.sample], item.tasks), item.key, item.views, people)
        about = meta(
            item.sample, item.requests, item.gold, until, instructions=item.instructions, reasons=item.reasons,
            priority=item.priority,
        )  # fmt: skip
        session.server.change_item(item.item, {"data": data, "meta": about})
    reassigned = sum(people != item.assigned for item, people in stale)
    session.refresh()
    return sum(0 < item.until < half for item, _ in stale), reassigned


def remove_outdated(session: Session, instructions: Mapping[str, Instructions], tasks: Collection[str]) -> int:
    """Delete the unanswered items for some of `tasks` alone that have other instructions since; returns how many.

    Their requests are sent again. The items are read again between two chunks, so that an answer is hardly ever deleted
    with its item.
    """
    removed = 0
    while old := [
        item for item in session.cache.items() if set(item.tasks) <= set(tasks) and _outdated(item, instructions)
    ][:REMOVED_AT_ONCE]:
        for item in old:
            session.server.remove_item(item.item)
            session.cache.drop(item)
        removed += len(old)
        session.refresh()
    return removed


def end_settled(session: Session, open_: Set[int]) -> None:
    """Ask nobody else for items whose requests are all closed, as a settled dispute closes them."""
    begun = [item for item in session.cache.items() if item.annotations and item.unfinished and item.requests]
    settled = [item for item in begun if open_.isdisjoint(item.requests.values())]
    for item in settled:
        session.server.change_item(item.item, {"overlap": len(item.people), "is_labeled": True})
    if settled:
        session.refresh()


def add_person_views(session: Session) -> None:
    """Give each person who is asked a view of their items in each project."""
    people = defaultdict[int, set[str]](set)
    for item in session.cache.items():
        people[item.project].update(item.assigned)
    for project, names in people.items():
        add_views(session.server, project, names)


def remove_duplicates(session: Session) -> int:
    """Delete items that exist twice and that nobody has answered; returns how many."""
    kept: dict[tuple[int, str], int] = {}
    surplus = []
    for item in sorted(session.cache.items(), key=lambda item: (not item.annotations, item.item)):
        if (item.project, item.key) not in kept:
            kept[item.project, item.key] = item.item
        elif not item.annotations:
            surplus.append(item)
    for item in surplus:
        session.server.remove_item(item.item)
        session.cache.drop(item)
    return len(surplus)


def _outdated(item: Item, instructions: Mapping[str, Instructions]) -> bool:
    return not item.annotations and any(
        item.instructions.get(task, 0) != instructions.get(task, NO_INSTRUCTIONS).version for task in item.tasks
    )
