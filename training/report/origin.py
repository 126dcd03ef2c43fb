"""What a report is about: a run that Amber trained on a plan, or an imported one, with neither plan nor weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from curation.catalog.snapshot import Snapshot
from curation.errors import AmberError
from curation.files.locations import read_bytes
from curation.files.prefixes import full_name
from curation.ingestion.leaks import refuse_leaks
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from training.imported import Imported, is_imported
from training.run import Run

__all__ = ["PictureOf", "TrainedRun", "parent_of", "pictures_of", "reported", "tasks_of"]

PictureOf = Callable[[str], bytes | None]
"""Gives the bytes of the image of a key, or None where they are not at hand."""


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A run that Amber trained, with its plan."""

    run: Run
    plan: Plan

    @property
    def id(self) -> str:
        return self.run.id

    def refuse_leaks(self, home: Path, now: Snapshot) -> None:
        """BadInput where the plan drew from a group that is in an evaluation split."""
        refuse_leaks(now, self.plan.keys)


def reported(home: Path, id_: str) -> TrainedRun | Imported:
    """The run whose id is `id_` or begins so; NotFound when the workspace has none, or several."""
    records = (path for path in (home / "runs").glob("*/*.json") if path.name in ("run.json", "imported.json"))
    id_ = full_name(id_, {path.parent.name for path in records}, what="run", where=home, listed="amber runs")
    if is_imported(home, id_):
        return Imported.open(home, id_)
    run = Run.open(home, id_)
    return TrainedRun(run=run, plan=Plan.open(home, run.plan))


def tasks_of(origin: TrainedRun | Imported) -> list[str]:
    """The names of the tasks that the run predicts."""
    return list(origin.tasks) if isinstance(origin, Imported) else [task.name for task in origin.plan.tasks]


def parent_of(origin: TrainedRun | Imported) -> str:
    """The run whose weights it started from; "" for none."""
    return "" if isinstance(origin, Imported) else origin.run.parent


def pictures_of(origin: TrainedRun | Imported, home: Path, now: Snapshot) -> PictureOf:
    """The images of the plan's pack; for an imported run those of the files that were ingested."""
    if isinstance(origin, TrainedRun):
        return _of_pack(Pack.open(home, origin.plan.pack_hash))
    samples = now.samples("key", "location")
    keys = samples["key"].combine_chunks()

    def read(key: str) -> bytes | None:
        try:
            return read_bytes(samples["location"][pc.index(keys, key).as_py()].as_py())
        except AmberError:
            return None

    return read


def _of_pack(pack: Pack) -> PictureOf:
    def read(key: str) -> bytes:
        (row,) = pack.rows([key])
        shards = pack.reader()
        data = bytes(shards.read(int(pack.shard[row]), int(pack.offset[row]), int(pack.size[row])))
        shards.close()
        return data

    return read
