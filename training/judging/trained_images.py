"""What a run was trained on, as far as is known."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from curation.catalog.snapshot import Snapshot
from samplers.plan.plan import Plan
from training.imported import Imported, is_imported

__all__ = ["trained_images", "trained_labels"]


def trained_images(now: Snapshot, home: Path, run: str) -> pa.Array | None:
    """The keys of the images that a run was trained on; None for an imported run where nobody declared them."""
    if is_imported(home, run):
        return Imported.open(home, run).trained(home)
    return Plan.open(home, _plan(now, run)).keys


def trained_labels(now: Snapshot, home: Path, run: str) -> Mapping[str, pa.Array] | None:
    """For each task the keys of the images whose label of it a run was trained on; of an imported run, all declared
    images for each task. None where nobody declared them."""
    if is_imported(home, run):
        keys = Imported.open(home, run).trained(home)
        return None if keys is None else dict.fromkeys(now.tasks(), keys)
    plan = Plan.open(home, _plan(now, run))
    return {
        task.name: plan.keys.take(pa.array(plan.label_sample[plan.label_task == number]))
        for number, task in enumerate(plan.tasks)
    }


def _plan(now: Snapshot, run: str) -> str:
    return next(str(row["plan"]) for row in now.runs().to_pylist() if row["run"] == run)
