"""Taking one image out of the runs of a workspace, and saying of which runs that it was part of them."""

import hashlib
import json
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.files.atomic import whole
from curation.files.read_back import read_json, read_parquet

__all__ = ["forget_predictions", "forget_replaced", "withdraw_runs"]


AGAIN = "remove the run's folder or train it again"


def withdraw_runs(home: Path, plans: Collection[str]) -> tuple[str, ...]:
    """Mark the runs on these plans (hashes), which no replay can make again, and those that went on from one of them.

    Returns the ids of all that are marked.
    """
    runs = {
        path.parent.name: read_json(path, AGAIN, _plan_and_parent)
        for path in sorted((home / "runs").glob("*/run.json"))
    }
    gone = {name for name, run in runs.items() if run["plan"] in plans}
    while more := {name for name, run in runs.items() if run.get("parent") in gone} - gone:
        gone |= more
    for name in gone:
        path = home / "runs" / name / "withdrawn.json"
        if not path.exists():
            with whole(path) as part:
                part.write_text(json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds")}))
    return tuple(sorted(gone))


def _plan_and_parent(run: dict[str, Any]) -> dict[str, Any]:
    return {"plan": run["plan"], "parent": run.get("parent")}


def forget_predictions(home: Path, key: str) -> dict[str, str]:
    """Write the predictions of all runs anew without this image; returns the sha256 of every file, by run."""
    hashes = {}
    for path in sorted((home / "runs").glob("*/predictions.parquet")):
        table = read_parquet(path, "evaluate the run again")
        if pc.index(table["key"], key).as_py() >= 0:
            with whole(path) as part:
                pq.write_table(table.filter(pc.not_equal(table["key"], key)), part)
        hashes[path.parent.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def forget_replaced(home: Path, key: str) -> None:
    """Write anew without this image what runs keep of the draws that other images took over."""
    for path in sorted((home / "runs").glob("*/replaced.json")):
        notes = read_json(path, AGAIN, lambda rows: [dict(row) for row in rows])
        kept = [note for note in notes if key not in (note["key"], note["by"])]
        if len(kept) < len(notes):
            with whole(path) as part:
                part.write_text(json.dumps(kept, indent=1))
