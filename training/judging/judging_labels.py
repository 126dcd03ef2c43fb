"""Labels of test images that decide between two runs: which to request, and the difference that their answers show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.arrays import Bools, Floats, Ints
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.read_back import read_parquet
from curation.requests.evaluation_labels import (
    DISAGREEMENT,
    SPLIT,
    drawn,
    propensities,
    request_rows,
    requestable,
    spread_evenly,
)
from training.evaluation.drawn_labels import Batch, answered, batches_of, label_weights
from training.evaluation.intervals import Figure
from training.evaluation.predictions import LabelledPredictions, Samples, known_labels, predictions_of
from training.judging.disagreement import PairedImages, difference_where_labelled, disagreement_reason

__all__ = ["RunPair"]


@dataclass(frozen=True, kw_only=True)
class RunPair:
    """A run and the base that it is compared with, by their full ids, with their predictions."""

    run: str
    base: str
    predictions: tuple[pa.Table, pa.Table]

    @classmethod
    def open(cls, now: Snapshot, home: Path, run: str, base: str) -> "RunPair":
        """The runs of a workspace whose ids are `run` and `base` or begin so; NotFound when there is none, BadInput
        when both are the same run, Damaged when predictions changed."""
        ids = now.runs.full_id(run), now.runs.full_id(base)
        if ids[0] == ids[1]:
            raise BadInput(f"run {run!r}: is compared with itself; name another run, `amber runs` lists them")
        paths = [now.runs.predictions_file(home, id_) for id_ in ids]
        tables = [read_parquet(path, "evaluate the run again") for path in paths]
        return cls(run=ids[0], base=ids[1], predictions=(tables[0], tables[1]))

    def tasks(self, now: Snapshot) -> list[Task]:
        """The tasks of classes and numbers that both runs predict, in the order of declaration."""
        names = [set(table["task"].unique().to_pylist()) for table in self.predictions]
        return [task for name, task in now.tasks().items() if task.single and all(name in part for part in names)]

    def of(self, task: Task, samples: Samples) -> tuple[Ints, PairedImages]:
        """The P test images for which both predict a task, as positions in `samples`, and what they predict."""
        test = np.asarray(samples.splits == SPLIT, np.bool_)
        sides = [predictions_of(task, samples, table, test) for table in self.predictions]
        rows, first, second = np.intersect1d(sides[0][0], sides[1][0], return_indices=True)
        (_, run, _, run_chances), (_, base, _, base_chances) = sides
        return rows, PairedImages(
            run=run[first], base=base[second], run_chances=run_chances[first], base_chances=base_chances[second]
        )

    def request(self, now: Snapshot, tasks: Sequence[Task], count: int, seed: int) -> list[dict[str, object]]:
        """Rows of `REQUESTS` for `count` labels of test images on which the two runs disagree, drawn in each task by
        how likely they differ in being right.

        The tasks get equally many labels, as far as they have so many such images. BadInput where there are fewer than
        `count`.
        """
        samples, ids, rows = Samples.at(now), now.task_ids(), list[dict[str, object]]()
        open_ = {task.name: self._open(now, task, samples) for task in tasks}
        left = sum(len(rows) for rows, _ in open_.values())
        if not 1 <= count <= left:
            raise BadInput(
                f"--ask {count}: runs {self.run} and {self.base} disagree on {left:,} labels of test that can be "
                "requested; " + (f"ask for 1 to {left:,}" if left else "there is nothing to ask")
            )
        for name, share in spread_evenly({name: len(part[0]) for name, part in open_.items()}, count).items():
            where, sizes = open_[name]
            chance = propensities(sizes, share)
            chosen = drawn(chance, [seed, ids[name], now.commit])
            rows += request_rows(
                samples.ids[where[chosen]], chance[chosen], task_id=ids[name], arm=DISAGREEMENT, run=self.run,
                reason=disagreement_reason(self.run, self.base),
            )  # fmt: skip
        return rows

    def asked_tasks(self, now: Snapshot) -> list[Task]:
        """The tasks of which labels were requested because these two runs disagree."""
        reason = disagreement_reason(self.run, self.base)
        return [task for task in self.tasks(now) if reason in now.requests.draws(task.name)["reason"].to_pylist()]

    def difference(self, now: Snapshot, task: Task, samples: Samples, cell: Bools) -> Figure:
        """The mean difference of the two runs over the test images that `cell` [N] marks: in the share predicted right,
        or in the mean absolute error (positive: the run is better). None where too few labels tell."""
        rows, pair = self.of(task, samples)
        inside = cell[rows]
        rows, pair = rows[inside], pair.at(inside)
        truth, weights, groups = known_labels(now, task, samples)[rows], samples.weights[rows], samples.groups[rows]
        batches = self._batches(now, task, samples.ids[rows], pair.differs)
        return difference_where_labelled(pair, truth, weights, groups, batches)

    def weighed(self, now: Snapshot, labelled: LabelledPredictions, task: Task) -> LabelledPredictions:
        """The labelled predictions of one of the two runs, with the weights that hold when these are compared on test.

        Where labels were drawn among the disagreeing images, these count by their inverse propensity, and the others,
        of images on which the runs agree, are scaled to as many images as there are (post-stratification). A label that
        was drawn to judge anything else is left out.
        """
        samples, rows = labelled.samples, labelled.rows
        images, pair = self.of(task, samples)
        differs, agrees = (np.zeros(len(samples.ids), np.bool_) for _ in range(2))
        differs[images], agrees[images] = pair.differs, ~pair.differs
        batches, there = self._batches(now, task, samples.ids, differs), differs[rows]
        alike = label_weights(labelled.batches, rows, differs | agrees) * samples.weights[rows] * agrees[rows]
        if not answered(batches, rows[there], differs) or not alike.any():
            return labelled
        weights = alike * (samples.weights[agrees].sum() / alike.sum())
        weights[there] = label_weights(batches, rows[there], differs) * samples.weights[rows[there]]
        return replace(labelled, weights=weights, batches=()).taken(weights > 0)

    def _open(self, now: Snapshot, task: Task, samples: Samples) -> tuple[Ints, Floats]:
        rows, pair = self.of(task, samples)
        sizes = pair.sizes() * samples.weights[rows]
        open_ = requestable(now, task, samples.ids[rows]) & (sizes > 0)
        return rows[open_], sizes[open_]

    def _batches(self, now: Snapshot, task: Task, ids: Ints, differs: Bools) -> list[Batch]:
        """The requests for the samples `ids` [N] that were drawn where the two disagree, after both had predicted."""
        reason = disagreement_reason(self.run, self.base)
        predicted = max(_predicted_at(now, run) for run in (self.run, self.base))
        found = batches_of(now, task.name, ids, DISAGREEMENT, lambda _, why: differs if why == reason else None)
        return [batch for batch in found if batch.opened >= predicted]


def _predicted_at(now: Snapshot, run: str) -> int:
    """The first commit that registers the predictions which a run has now."""
    rows = [row for row in now.runs().to_pylist() if row["run"] == run]
    return min(int(row["commit_id"]) for row in rows if row["sha256"] == rows[-1]["sha256"])
