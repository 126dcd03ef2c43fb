"""Removing one image from the runs of a workspace, and marking the runs that were trained on it."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.files.atomic import whole
from curation.files.read_back import read_json, read_parquet, sha256_of
from training.imported import Imported

__all__ = ["forget_predictions", "forget_replaced", "forget_training_key", "withdraw_runs"]


AGAIN = "remove the run's folder or train it again"


def withdraw_runs(home: Path, plans: Collection[str]) -> tuple[str, ...]:
    """Mark the runs on these plans (hashes), which can no longer be repeated, and all runs that continued one of them,
    or read features of its trunk.

    Returns the ids of all marked runs.
    """
    runs = {
        path.parent.name: read_json(path, AGAIN, _plan_and_origins)
        for path in sorted((home / "runs").glob("*/run.json"))
    }
    marked = {name for name, run in runs.items() if run["plan"] in plans}
    while children := {name for name, run in runs.items() if marked & run["origins"]} - marked:
        marked |= children
    for name in marked:
        _withdraw(home, name)
    return tuple(sorted(marked))


def _plan_and_origins(run: dict[str, Any]) -> dict[str, Any]:
    trunk = str(run["recipe"]["trunk"]).removeprefix("run:")
    return {"plan": run["plan"], "origins": {run.get("parent"), trunk}}


def forget_predictions(home: Path, key: str) -> dict[str, str]:
    """Remove this image from the predictions of all runs; returns the sha256 of every predictions file, by run."""
    hashes = {}
    for path in sorted((home / "runs").glob("*/predictions.parquet")):
        table = read_parquet(path, "evaluate the run again")
        if pc.index(table["key"], key).as_py() >= 0:
            with whole(path) as part:
                pq.write_table(table.filter(pc.not_equal(table["key"], key)), part)
        hashes[path.parent.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def forget_training_key(home: Path, key: str) -> tuple[str, ...]:
    """Remove this image from the declared training lists of imported runs; returns the runs whose list had it.

    A model that was trained on the image keeps its predictions of others, and the run is marked as withdrawn.
    """
    found = []
    for path in sorted((home / "runs").glob("*/trained_on.parquet")):
        made = Imported.open(home, path.parent.name)
        table = read_parquet(path, AGAIN)
        if pc.index(table["key"], key).as_py() < 0:
            continue
        with whole(path) as part:
            pq.write_table(table.filter(pc.not_equal(table["key"], key)), part)
        replace(made, training_sha256=sha256_of(path)).save(home)
        _withdraw(home, made.id)
        found.append(made.id)
    return tuple(found)


def _withdraw(home: Path, run: str) -> None:
    path = home / "runs" / run / "withdrawn.json"
    if not path.exists():
        with whole(path) as part:
            part.write_text(json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds")}))


def forget_replaced(home: Path, key: str) -> None:
    """Remove this image from every run's list of replaced draws, as the unreadable image or as its replacement."""
    for path in sorted((home / "runs").glob("*/replaced.json")):
        draws = read_json(path, AGAIN, lambda rows: [dict(row) for row in rows])
        kept = [draw for draw in draws if key not in (draw["key"], draw["by"])]
        if len(kept) < len(draws):
            with whole(path) as part:
                part.write_text(json.dumps(kept, indent=1))
