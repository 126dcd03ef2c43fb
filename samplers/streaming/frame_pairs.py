"""Frame pairs: for each image of a pack, the frame before it. Bytes are not copied: a pair is two rows of the pack."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools, Int32s, Ints
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan

__all__ = ["FramePairs", "frames_before", "gap_of", "pairs_of"]


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
        times = known["captured_at"].cast(pa.timestamp("us"))
        if times.null_count == len(times):
            raise BadInput("frame pairs: no image has captured_at; ingest it, or let the task read one frame")
        found = frames_before(
            known["group"].to_pylist(), np.asarray(times.cast(pa.int64()).fill_null(0), np.int64),
            np.asarray(times.is_valid(), np.bool_) & ~np.asarray(known["excluded"], np.bool_),
            gap, names=known["key"].to_pylist(),
        )  # fmt: skip
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


def frames_before(
    groups: Sequence[str], times: Ints, usable: Bools, gap: float, *, names: Sequence[str] = ()
) -> npt.NDArray[np.int64]:
    """The index [n] of the frame before each of n frames: the last earlier one of its group, within `gap` seconds.

    `times` are microseconds. -1 where there is none, and for frames that are not `usable` (without a time, or
    excluded), which are no frame before either. BadInput where two usable frames of a group have the same time: `names`
    name them.

    >>> frames_before(["a", "a", "b"], np.array([100_000, 0, 200_000]), np.ones(3, bool), 0.1).tolist()
    [1, -1, -1]
    """
    codes = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]
    rows = np.flatnonzero(usable)
    order = rows[np.lexsort([times[rows], codes[rows]])]
    first, second = order[:-1], order[1:]
    same, apart = codes[first] == codes[second], times[second] - times[first]
    if len(tied := np.flatnonzero(same & (apart == 0))):
        pair = [names[row] if names else str(row) for row in (first[tied[0]], second[tied[0]])]
        raise BadInput(
            f"frame pairs: {pair[0]} and {pair[1]} of one group have the same captured_at, so neither is before the "
            "other; give them different times or groups"
        )
    found = np.full(len(codes), -1, np.int64)
    near = same & (apart <= round(gap * 1e6))
    found[second[near]] = first[near]
    return found


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
