"""What is known of runs beyond their record: which were released, which is deployed, and whether a chain was needed."""

from collections.abc import Sequence
from pathlib import Path

from curation.catalog.snapshot import Snapshot
from training.dynamics.flattened_mark import FlattenedMark
from training.dynamics.releases import champion, releases

__all__ = ["run_marks"]


def run_marks(home: Path, now: Snapshot, runs: Sequence[str]) -> dict[str, list[str]]:
    """Lines about each of `runs`, for those that have some."""
    deployed, released = champion(now), {each.run for each in releases(now)}
    found: dict[str, list[str]] = {}
    for run in runs:
        mark = FlattenedMark.of(home, run)
        lines = ["deployed"] if run == deployed else ["was released"] if run in released else []
        if lines or mark:
            found[run] = [*lines, *([mark.text] if mark else [])]
    return found
