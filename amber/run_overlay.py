"""The run overlay: what the App shows of a run. `amber browse` and the service's buttons share it."""

from pathlib import Path

import pyarrow.parquet as pq

from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.fiftyone_app.columns import Overlay
from training.report.run_results import registered_run, verified_predictions

__all__ = ["overlay_of"]


def overlay_of(home: Path, now: Snapshot, run: str, against: str) -> Overlay:
    """The predictions of `run`, and of the run `against` that it is compared with ("" for none).

    NotFound when the catalog has no such run; Damaged when its predictions have changed.
    """
    if against and not run:
        raise BadInput(f"--against {against}: needs a run to compare with; name one with --run")
    run, against = (now.runs.full_id(name) if name else "" for name in (run, against))
    files = [str(verified_predictions(home, registered_run(now, name))) if name else None for name in (run, against)]
    boxed = _boxed(now, files[0]) if files[0] else ()
    return Overlay(run=run, against=against, predictions=files[0], before=files[1], boxed=boxed)


def _boxed(now: Snapshot, predictions: str) -> tuple[str, ...]:
    """The tasks of boxes that a run predicts."""
    found = set(pq.read_table(predictions, columns=["task"])["task"].unique().to_pylist())
    return tuple(task.name for task in now.tasks().values() if task.kind == "detection" and task.name in found)
