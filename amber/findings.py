"""What verbs found about a run, as views of the FiftyOne App: doubts, discovered slices, a gate's verdicts."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from amber.doubts import DoubtedLabel
from curation.catalog.snapshot import Snapshot
from curation.fiftyone_app.columns import Finding
from training.judging.undeclared_slices import UndeclaredSlice

if TYPE_CHECKING:
    from training.judging.gate import JudgedFigure
    from training.judging.paired_runs import PairedRuns

__all__ = ["doubt_findings", "slice_findings", "verdict_findings"]

LONGEST_NAME: Final = 100
"""Characters of a view's name, of which FiftyOne takes no more."""


def doubt_findings(found: Iterable[DoubtedLabel], run: str) -> list[Finding]:
    """A finding for each task with doubts: the images with the surest doubts first."""
    keys: dict[str, dict[str, None]] = {}
    for part in found:
        keys.setdefault(part.task, {}).update(dict.fromkeys(part.keys))
    told = f"labels that are likely wrong by run {run}, the surest first"
    return [Finding(name=f"doubts {task}", keys=tuple(own), told=told) for task, own in keys.items()]


def slice_findings(now: Snapshot, found: Sequence[UndeclaredSlice], *, predictions: str, split: str) -> list[Finding]:
    """A finding for each discovered slice: its images of `split`, or of a cluster the examples."""
    samples = now.samples()
    return [
        Finding(
            name=f"discovered {number} of {part.task}: {part.predicate or part.name}"[:LONGEST_NAME],
            keys=_members(now, samples, part, predictions, split), bad=True,
            told=f"error {part.error.value:.3f}, elsewhere {part.outside.value:.3f}; false discovery rate {part.q:.2g}",
        ) for number, part in enumerate(found, 1)
    ]  # fmt: skip


def verdict_findings(runs: "PairedRuns", figures: Iterable["JudgedFigure"]) -> list[Finding]:
    """A finding for each (task, slice) that a gate judged: its images, what blocks first."""
    order, keys = ["block", "not enough data", "pass"], runs.samples.keys
    judged = sorted((row for row in figures if row.task), key=lambda row: order.index(row.outcome))
    return [
        Finding(
            name=f"verdict {number}: {row.outcome}, {row.task} on {row.slice or 'everything'}"[:LONGEST_NAME],
            bad=row.outcome == order[0],
            keys=tuple(str(key) for key in keys.filter(pa.array(runs.inside[row.slice])).to_pylist()),
            told=f"{row.measure} {row.base:.2f} before, {row.run:.2f} now: a drop of {row.drop:+.2f}, at most "
            f"{row.high:+.2f}; margin {row.margin:g} {row.unit}",
        ) for number, row in enumerate(judged, 1)
    ]  # fmt: skip


def _members(now: Snapshot, samples: pa.Table, part: UndeclaredSlice, predictions: str, split: str) -> tuple[str, ...]:
    if not part.predicate:
        return part.examples
    inside = samples.filter(pc.equal(samples["split"], split))
    ids = pa.array(now.members(part.predicate, predictions=predictions))
    rest = inside.filter(pc.is_in(inside["sample_id"], value_set=ids))["key"].to_pylist()
    return tuple(dict.fromkeys([*(key for key in part.examples if key in set(rest)), *rest]))
