"""The samples that labels can be requested for, with what the catalog, a run and the embeddings hold about them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.schema import KNOWN
from curation.catalog.slices import Slice
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.files.read_back import read_parquet
from curation.images.embeddings import Embeddings

__all__ = ["Candidates"]

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


EVALUATE = "evaluate the run again"


class Candidates:
    """The N training samples of a snapshot that are not excluded, ordered by id; evaluation samples are never here.

    `ids` and `groups` are arrays [N]. `open` holds for each task a mask [N]: true where a label may be requested. A
    row is an index into these arrays. NotFound when the catalog has no run of that name.
    """

    def __init__(self, now: Snapshot, home: Path, *, run: str = "", embeddings: str = "") -> None:
        self.now = now
        self.tasks = {name: task for name, task in now.tasks().items() if task.outputs}
        samples = now.samples()
        usable = pc.and_(pc.equal(samples["split"], "train"), pc.invert(samples["excluded"]))
        samples = samples.filter(usable).sort_by("sample_id")
        self.keys = samples["key"].combine_chunks()
        self.ids: Ids = np.asarray(samples["sample_id"].to_numpy(), np.int64)
        self.groups: npt.NDArray[np.object_] = np.asarray(samples["group"].to_pylist(), dtype=object)
        self.open = {name: self._without_label_or_request(name) for name in self.tasks}
        self._predictions_path = now.runs.predictions_file(home, run) if run else None
        self._predictions = read_parquet(self._predictions_path, EVALUATE) if self._predictions_path else None
        self._embeddings = Embeddings.open(home, embeddings) if embeddings else None

    @property
    def has_predictions(self) -> bool:
        """Whether a run was named."""
        return self._predictions is not None

    @property
    def has_vectors(self) -> bool:
        """Whether embeddings were named."""
        return self._embeddings is not None

    def known(self, task: str) -> pa.Table:
        """The known labels of a task on these samples."""
        labels = self.now.labels(task)
        labels = labels.filter(pc.equal(labels["state"], KNOWN))
        return labels.filter(pc.is_in(labels["sample_id"], value_set=pa.array(self.ids)))

    def members(self, slice_: Slice, assume: dict[str, str | bool | float] | None = None) -> Ids:
        """Ids of all samples in a slice, of any split; `assume` gives every sample the same label of a task."""
        path = str(self._predictions_path) if self._predictions_path else None
        return self.now.members(slice_.predicate, predictions=path, assume=assume or {})

    def inside(self, slice_: Slice) -> Bools:
        """Whether each sample [N] is in the slice by its current labels."""
        return np.isin(self.ids, self.members(slice_))

    def inside_by_class(self, task: Task, slice_: Slice) -> Bools:
        """Whether each sample would be in the slice if its label of `task` were class c: [N, C]."""
        labels: list[str | bool] = [False, True] if task.kind == "binary" else list(task.classes)
        columns = [np.isin(self.ids, self.members(slice_, {task.name: label})) for label in labels]
        return np.array(columns, np.bool_).reshape(len(columns), len(self.ids)).T

    def could_be_inside(self, task: Task, slice_: Slice) -> Bools:
        """Whether each sample [N] could be in the slice, whatever its label of `task` turns out to be."""
        return self.inside_by_class(task, slice_).any(axis=1) | self.inside(slice_)

    def probabilities(self, task: Task) -> Floats | None:
        """Class probabilities [N, C] that the run predicts; None when it has none for the task.

        A sample that is newer than the run gets 1/C for each class.
        """
        if self._predictions is None or task.kind == "regression":
            return None
        predicted = self._predictions.filter(pc.equal(self._predictions["task"], task.name))
        if not len(predicted):
            return None
        rows = pc.index_in(predicted["key"], value_set=self.keys)
        predicted = predicted.filter(pc.is_valid(rows))
        chances = np.full((len(self.ids), len(task.classes)), 1 / len(task.classes))
        flat = predicted["probabilities"].combine_chunks().flatten().to_numpy()
        chances[rows.drop_null().to_numpy()] = flat.reshape(len(predicted), -1)
        return chances

    def vectors(self, rows: Ids) -> npt.NDArray[np.float32]:
        """Standardised embeddings [n, D] of these rows."""
        assert self._embeddings is not None
        return self._embeddings.standardised(self._embeddings.rows(self.keys.take(pa.array(rows)).to_pylist()))

    def _without_label_or_request(self, task: str) -> Bools:
        """Whether each sample [N] has no current label of the task and no request that is open or answered."""
        requests = self.now.requests()
        mine = pc.and_(pc.equal(requests["task"], task), pc.not_equal(requests["state"], "withdrawn"))
        taken = [self.now.labels(task)["sample_id"].to_numpy(), requests.filter(mine)["sample_id"].to_numpy()]
        return ~np.isin(self.ids, np.concatenate(taken))
