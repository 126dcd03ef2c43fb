"""The version of an evaluation set, and how often it was already used to decide."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.snapshot import Snapshot
from curation.files.digest import digest
from training.judging.paired_runs import PairedRuns

__all__ = ["GATE", "EvaluationSet"]

GATE: Final = "gate"
"""The act by which a gate's decision is recorded: `policy` is the digest of its evaluation set."""
LETTERS: Final = 32


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """The labels by which a gate judges: a digest of every one with its group and weight, and how many they are.

    `used` counts the earlier decisions of gates on exactly these labels, `used_before` those on other versions: each
    look makes the next decision a little less independent of the set.
    """

    digest: str
    split: str
    labels: int
    groups: int
    used: int
    used_before: int

    @classmethod
    def of(cls, now: Snapshot, runs: PairedRuns, *, but: int | None = None) -> Self:
        """The evaluation set of two runs' tasks; the decision recorded in commit `but` is not counted."""
        found = [_digest(now, runs, task) for task in sorted(runs.tasks)]
        table = pa.table({"task": sorted(runs.tasks), "digest": found})
        version = digest(table, (runs.split,))[:LETTERS]
        rows = np.concatenate([pair.first.rows for pair in runs.tasks.values()])
        acts = now.ownership.acts()
        gates = acts.filter(pc.equal(acts["act"], GATE)).to_pylist()
        others = [act["policy"] == version for act in gates if act["commit_id"] != but]
        return cls(
            digest=version, split=runs.split, labels=len(rows), groups=len(np.unique(runs.samples.groups[rows])),
            used=sum(others), used_before=len(others) - sum(others),
        )  # fmt: skip


def _digest(now: Snapshot, runs: PairedRuns, task: str) -> str:
    """The digest of a task's labels: key, label, weight, and which images are in one group."""
    rows, labels = runs.tasks[task].first.rows, now.labels(task)
    places = pc.index_in(pa.array(runs.samples.ids[rows]), value_set=labels["sample_id"].combine_chunks())
    known = labels.select(["code", "number", "codes", "boxes"]).take(places)
    names = np.unique(runs.samples.groups[rows], return_inverse=True)[1]
    columns = [runs.samples.keys.take(pa.array(rows)), pa.array(runs.samples.weights[rows]), pa.array(names)]
    for name, column in zip(("key", "weight", "group"), columns, strict=True):
        known = known.append_column(name, column)
    return digest(known, (task,))
