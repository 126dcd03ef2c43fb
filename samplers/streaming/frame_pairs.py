"""Frame pairs: for each image of a pack, the frame before it. Bytes are not copied: a pair is two rows of the pack."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Int32s
from curation.catalog.catalog import Catalog
from curation.catalog.frames_before import samples_before
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan

__all__ = ["FramePairs", "gap_of", "pairs_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FramePairs:
    """For each row of `pack`, the row of the frame before it; -1 where there is none. `before` is [N]."""

    pack: Pack
    before: Int32s

    @classmethod
    def at(cls, now: Snapshot, pack: Pack, gap: float) -> "FramePairs":
        """The pairs within `gap` seconds, by group and `captured_at` as of `now`.

        Frames that are excluded, or not in the pack, are no frame before. BadInput where no image of the pack has a
        time, and where two frames of a group have the same.
        """
        samples = now.samples()
        known = samples.filter(pc.is_in(samples["key"], value_set=pack.keys))
        if known["captured_at"].null_count == len(known):
            raise BadInput("frame pairs: no image has captured_at; ingest it, or let the task read one frame")
        found = samples_before(known, gap)
        before = np.full(len(pack.keys), -1, np.int32)
        rows = pack.rows(known["key"].combine_chunks())
        before[rows] = np.where(found >= 0, rows[found], -1)
        return cls(pack=pack, before=before)

    def of(self, keys: pa.StringArray) -> Int32s:
        """The rows [n] of the pack of the frames before these images; -1 where there is none."""
        return np.asarray(self.before[self.pack.rows(keys)], np.int32)

    def keys_before(self, keys: Sequence[str]) -> list[str]:
        """The keys of the frames before these images, without those that have none."""
        rows = self.of(pa.array(keys, pa.string()))
        return [str(key) for key in self.pack.keys.take(pa.array(rows[rows >= 0])).to_pylist()]


def gap_of(tasks: Sequence[Task]) -> float:
    """The largest gap in seconds between the two frames that tasks read; 0 where all of them read one frame.

    BadInput where two tasks state different gaps: all read the same pair.
    """
    paired = [task for task in tasks if task.inputs == 2]
    other = next((task for task in paired if task.gap != paired[0].gap), None)
    if other is not None:
        raise BadInput(
            f"tasks {paired[0].name} and {other.name}: read frames at most {paired[0].gap:g} s and {other.gap:g} s "
            "apart; state the same gap, since all tasks of a plan read the same pair"
        )
    return paired[0].gap if paired else 0.0


def pairs_of(plan: Plan, home: Path, pack: Pack) -> FramePairs | None:
    """The frame pairs of a plan's pack at the plan's commit; None where each of its tasks reads one frame."""
    gap = gap_of([task.task for task in plan.tasks])
    if not gap:
        return None
    with Catalog.open(home).read(plan.commit) as then:
        return FramePairs.at(then, pack, gap)
