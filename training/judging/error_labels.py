"""Labels of test images that estimate the error of one run: which to request, and what their answers show."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.arrays import Bools, Floats, Ints
from curation.catalog.applicability import applicability
from curation.catalog.schema import KNOWN
from curation.catalog.slices import Slice, columns_of
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from curation.files.read_back import read_parquet
from curation.requests.candidates import inside_by_class
from curation.requests.evaluation_labels import (
    ESTIMATE,
    SPLIT,
    drawn,
    propensities,
    request_rows,
    requestable,
    spread_evenly,
)
from training.evaluation.drawn_labels import Batch, batches_of
from training.evaluation.predictions import Samples, known_labels, predictions_of
from training.judging.estimated_error import ErrorEstimate, PoolPredictions, estimated_error, estimated_mean

__all__ = ["EVERYTHING", "JudgedSlice"]

EVERYTHING = "all"
"""How a person names the slice of all images."""


@dataclass(frozen=True, kw_only=True)
class JudgedSlice:
    """A run, by its full id, with its predictions; and a slice on which it is judged, None for all images."""

    run: str
    predictions: pa.Table
    slice: Slice | None
    tasks: Sequence[Task]

    @classmethod
    def open(cls, now: Snapshot, home: Path, run: str, name: str, task: str = "") -> "JudgedSlice":
        """The run whose id is `run` or begins so, on the slice `name` ("all": all images), for one task or for all that
        the run predicts and the slice is of.

        NotFound for a run, slice or task that is missing; BadInput where the slice reads predictions or the numbers
        that are asked for, or where the run does not predict the task.
        """
        slices, id_ = now.slices(), now.runs.full_id(run)
        part = None if name == EVERYTHING and name not in slices else now.slice(name)
        if part and part.reads_predictions:
            raise BadInput(f"slice {name!r}: reads predictions; estimate the error on one of attributes or labels")
        table = read_parquet(now.runs.predictions_file(home, id_), "evaluate the run again")
        predicted = set(table["task"].unique().to_pylist())
        named = task or (part.task if part else "")
        wanted = [now.task(named)] if named else list(now.tasks().values())
        if part and part.task not in ("", wanted[0].name) and task:
            raise BadInput(f"slice {name!r}: is of the task {part.task}, not of {task}; leave --task out")
        tasks = [found for found in wanted if found.single and found.name in predicted]
        if not tasks:
            raise BadInput(
                f"run {id_}: predicts nothing of {', '.join(found.name for found in wanted)}; choose another run"
            )
        made = cls(run=id_, predictions=table, slice=part, tasks=tasks)
        for found in tasks:
            made._refuse(found)
        return made

    def request(self, now: Snapshot, count: int, seed: int) -> list[dict[str, object]]:
        """Rows of `REQUESTS` for `count` labels of test images in the slice, drawn where the run is unsure.

        The tasks get equally many. BadInput where fewer can be requested.
        """
        samples, ids = Samples.at(now), now.task_ids()
        open_ = {task.name: self._open(now, task, samples) for task in self.tasks}
        left = sum(len(rows) for rows, _ in open_.values())
        name = self.slice.name if self.slice else ""
        if not 1 <= count <= left:
            raise BadInput(
                f"--ask {count}: {left:,} labels of test in {name or EVERYTHING} can be requested for "
                f"{', '.join(open_)}; " + (f"ask for 1 to {left:,}" if left else "there is nothing to ask")
            )
        rows = list[dict[str, object]]()
        for task, share in spread_evenly({task: len(part[0]) for task, part in open_.items()}, count).items():
            where, sizes = open_[task]
            chance = propensities(sizes, share)
            chosen = drawn(chance, [seed, ids[task], now.commit])
            rows += request_rows(
                samples.ids[where[chosen]], chance[chosen], task_id=ids[task], arm=ESTIMATE, run=self.run, slice_=name,
                reason=f"estimates the error of run {self.run}",
            )  # fmt: skip
        return rows

    def estimate(self, now: Snapshot, task: Task, samples: Samples) -> ErrorEstimate:
        """The share of the slice's test images that the run predicts wrong, or its mean absolute error there."""
        rows, pool = self._pool(now, task, samples)
        truth, weights, groups = known_labels(now, task, samples)[rows], samples.weights[rows], samples.groups[rows]
        batches = self._batches(now, task, samples.ids[rows])
        if isinstance(pool, PoolPredictions):
            return estimated_error(pool, truth, weights, groups, batches)
        return estimated_mean(np.abs(pool - truth), weights, groups, batches)

    def _open(self, now: Snapshot, task: Task, samples: Samples) -> tuple[Ints, Floats]:
        """The images of which a label can be requested, and the sizes by which they are drawn."""
        rows, pool = self._pool(now, task, samples)
        weights = samples.weights[rows]
        sizes = pool.sizes(weights) if isinstance(pool, PoolPredictions) else weights
        open_ = requestable(now, task, samples.ids[rows])
        return rows[open_], sizes[open_]

    def _pool(self, now: Snapshot, task: Task, samples: Samples) -> tuple[Ints, PoolPredictions | Floats]:
        """The P test images that could be in the slice, as positions in `samples`, and what the run predicts there:
        class probabilities, or numbers [P]. Images to which the task does not apply, or about which people are unsure,
        are left out."""
        labels = now.labels(task.name)
        settled = labels.filter(pa.compute.not_equal(labels["state"], KNOWN))["sample_id"].to_numpy()
        out = np.isin(samples.ids, np.concatenate([settled, applicability(now, task).known]))
        rows, predicted, _, chances = predictions_of(
            task, samples, self.predictions, np.asarray((samples.splits == SPLIT) & ~out, np.bool_)
        )
        ids = samples.ids[rows]
        if not task.classes:
            inside = (
                np.ones(len(rows), np.bool_) if self.slice is None else np.isin(ids, now.members(self.slice.predicate))
            )
            return rows[inside], predicted[inside]
        if not np.isfinite(chances).all():
            raise BadInput(
                f"run {self.run}: has no class probabilities of {task.name}; predictions need them to be drawn by"
            )
        by_class = self._inside(now, task, ids)
        could = by_class.any(axis=1)
        return rows[could], PoolPredictions(
            predicted=predicted[could].astype(np.int64), chances=chances[could], inside=by_class[could]
        )

    def _inside(self, now: Snapshot, task: Task, ids: Ints) -> Bools:
        if self.slice is None:
            return np.ones((len(ids), len(task.classes)), np.bool_)
        return inside_by_class(
            now, task, self.slice, ids, lambda part, assume: now.members(part.predicate, assume=assume or {})
        )

    def _batches(self, now: Snapshot, task: Task, ids: Ints) -> list[Batch]:
        """The requests among the images `ids` [P] that were drawn for this slice, or for one that holds it."""
        slices, every = now.slices(), np.ones(len(ids), np.bool_)

        def pool_of(name: str, _: str) -> Bools | None:
            if not name or (self.slice and name == self.slice.name):
                return every
            if name not in slices or slices[name].reads_predictions:
                return None
            return every if np.isin(ids, now.members(slices[name].predicate)).all() else None

        return batches_of(now, task.name, ids, ESTIMATE, pool_of)

    def _refuse(self, task: Task) -> None:
        reads = columns_of(self.slice.predicate) if self.slice else ()
        if not task.classes and any(name == task.name and family != "attr" for family, name in reads):
            name = self.slice.name if self.slice else ""
            raise BadInput(
                f"slice {name!r}: reads label.{task.name}, the number that is asked for; estimate another slice"
            )
