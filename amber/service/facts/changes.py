"""What a commit changed, what a revert of it would undo, and the revert: for pages and routes alike."""

from collections.abc import Hashable
from dataclasses import asdict, dataclass
from typing import Any

from amber.service.made import Maker
from curation.catalog.catalog import Catalog
from curation.catalog.differences import definition_changes, differences, slice_changes
from curation.catalog.ownership import Identity

__all__ = ["Undone", "changes", "revert", "reverting"]


@dataclass(frozen=True, kw_only=True)
class Undone:
    """What a revert undid, or would: counts by kind, and how many events later commits have replaced (`kept`).

    `made` is the commit that undoes it; None for a preview.
    """

    commit: int
    made: int | None
    moved: dict[str, int]
    kept: int


class _Preview(Exception):
    """Ends a commit that was only looked at."""


def changes(catalog: Catalog, commit: int) -> tuple[Hashable, Maker]:
    """The key and the maker of what a commit changed: labels, definitions and slices as `amber diff` gives them, and
    acts. NotFound when there is no such commit."""
    with catalog.read() as now:
        now.log.commit(commit)

    def make(tell: Any) -> dict[str, Any]:
        with catalog.read(commit) as after:
            before, touched = after.earlier(commit - 1), after.log.labelled(commit)
            tasks = [name for name, id_ in after.task_ids().items() if id_ in touched]
            return {
                "commit": commit, "labels": [asdict(row) for row in differences(before, after, tasks)],
                "definitions": definition_changes(before, after), "slices": slice_changes(before, after),
                "acts": after.ownership.acts(commit - 1).to_pylist(),
            }  # fmt: skip

    return ("changes", commit), make


def reverting(catalog: Catalog, commit: int, *, by: Identity, author: str) -> tuple[Hashable, Maker]:
    """The key and the maker of what a revert would undo, as of now: made by a revert that is not kept.

    Raises what `PendingCommit.revert` raises.
    """
    with catalog.read() as now:
        at = now.commit

    def make(tell: Any) -> Undone:
        found: dict[str, int] = {}
        try:
            with catalog.commit(author=author, message=f"revert commit {commit}") as change:
                found = change.revert(commit, by=by)
                raise _Preview
        except _Preview:
            return _undone(commit, None, found)

    return ("reverting", commit, at, str(by)), make


def revert(catalog: Catalog, commit: int, *, by: Identity, author: str, batch: str) -> Undone:
    """Undo a commit by a new one, as `amber revert`; the same batch again does nothing, and then nothing is counted."""
    with catalog.commit(author=author, message=f"revert commit {commit}", batch=batch) as change:
        moved = change.revert(commit, by=by)
        made = change.id
    return _undone(commit, made, moved)


def _undone(commit: int, made: int | None, moved: dict[str, int]) -> Undone:
    counts = {name: count for name, count in moved.items() if count and name != "kept"}
    return Undone(commit=commit, made=made, moved=counts, kept=moved.get("kept", 0))
