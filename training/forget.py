"""Removes one image from the runs of a workspace, and marks the runs that were trained on it."""

import hashlib
import json
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.files.atomic import whole

__all__ = ["forget_predictions", "forget_replaced", "withdraw_runs"]


def withdraw_runs(home: Path, plans: Collection[str]) -> tuple[str, ...]:
    """Mark the runs on these plans (hashes), which cannot be repeated, and every run that started from one of them.

    Returns the ids of all marked runs.
    """
    runs = {path.parent.name: json.loads(path.read_text()) for path in sorted((home / "runs").glob("*/run.json"))}
    gone = {name for name, run in runs.items() if run["plan"] in plans}
    while more := {name for name, run in runs.items() if run.get("parent") in gone} - gone:
        gone |= more
    for name in gone:
        path = home / "runs" / name / "withdrawn.json"
        if not path.exists():
            with whole(path) as part:
                part.write_text(json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds")}))
    return tuple(sorted(gone))


def forget_predictions(home: Path, key: str) -> dict[str, str]:
    """Rewrite the predictions of all runs without this image; returns the sha256 of every file, by run."""
    hashes = {}
    for path in sorted((home / "runs").glob("*/predictions.parquet")):
        table = pq.read_table(path)
        if pc.index(table["key"], key).as_py() >= 0:
            with whole(path) as part:
                pq.write_table(table.filter(pc.not_equal(table["key"], key)), part)
        hashes[path.parent.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def forget_replaced(home: Path, key: str) -> None:
    """Rewrite the records of replaced draws without this image."""
    for path in sorted((home / "runs").glob("*/replaced.json")):
        notes = json.loads(path.read_text())
        kept = [note for note in notes if key not in (note["key"], note["by"])]
        if len(kept) < len(notes):
            with whole(path) as part:
                part.write_text(json.dumps(kept, indent=1))
