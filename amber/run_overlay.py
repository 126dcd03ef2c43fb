"""What of runs is shown in the App: for who opens it, and for the service that tells its buttons what changed."""

from pathlib import Path

from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.fiftyone_app.columns import Scene
from training.report.run_results import checked, registered

__all__ = ["scene_of"]


def scene_of(home: Path, now: Snapshot, run: str, against: str) -> Scene:
    """The predictions of a run, and of one that it is held against; "" for none. NotFound when the catalog has no such
    run, Damaged when its predictions have changed."""
    if against and not run:
        raise BadInput(f"--against {against}: is held against a run; name that with --run")
    files = [str(checked(home, registered(now, name))) if name else None for name in (run, against)]
    return Scene(run=run, against=against, predictions=files[0], before=files[1])
