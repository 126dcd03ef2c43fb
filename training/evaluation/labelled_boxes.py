"""A run's predicted boxes beside the boxes that are known at a commit; without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools, Floats, Ints
from curation.catalog.ignored_boxes import ignored_boxes
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from training.evaluation.attribute_sums import AttributeSums, attribute_sums
from training.evaluation.box_matching import Boxes
from training.evaluation.box_sums import BoxSums, mean_figures
from training.evaluation.drawn_labels import Batch, label_weights
from training.evaluation.intervals import Figure
from training.evaluation.predictions import Samples, judging_batches, rows_of

__all__ = ["BOX_METRICS", "LabelledBoxes", "boxes_beside", "labelled_boxes"]

BOX_METRICS = ("map", "ap50")
"""COCO's AP, the mean over classes and overlaps of one half to 0.95, and AP50, at an overlap of one half alone."""


@dataclass(frozen=True, kw_only=True)
class LabelledBoxes:
    """The n images whose boxes of a task are known and for which a run predicts them (none, too).

    `rows` [n] are positions in `Samples`, `weights` [n] inverse propensities of image and label, `sums` what the images
    add to the figures; `batches` are the requests that were drawn. `known` and `predicted` are all boxes of these
    images; `attributes` are the sums of the attributes that the run predicts.
    """

    rows: Ints
    weights: Floats
    sums: BoxSums
    samples: Samples
    known: Boxes
    predicted: Boxes
    batches: Sequence[Batch] = ()
    attributes: Mapping[str, AttributeSums] = field(default_factory=dict)

    @property
    def groups(self) -> Ints:
        """The group [n] of each image, as a code."""
        return self.samples.groups[self.rows]

    def at(self, cell: Bools) -> Self:
        """Only the images that are marked in `cell` [N], with the weights that hold for it."""
        here, weights = cell[self.rows], self.weights
        if self.batches:
            weights = label_weights(self.batches, self.rows, cell) * self.samples.weights[self.rows]
            here = here & (weights > 0)
        by_row = np.zeros(len(cell))
        by_row[self.rows[here]] = weights[here]
        return replace(
            self, rows=self.rows[here], weights=weights[here], sums=self.sums.weighted(by_row),
            attributes={name: part.weighted(by_row) for name, part in self.attributes.items()},
        )  # fmt: skip

    def figures(self) -> dict[str, Figure]:
        """The figures of `BOX_METRICS`."""
        groups = len(np.unique(self.groups))
        found = mean_figures(self.sums, n=len(self.rows), groups=groups)
        return dict(zip(BOX_METRICS, found, strict=True))

    def attribute_figures(self) -> dict[str, Figure]:
        """The figures of `AttributeSums` by metric, such as "sign_kind:accuracy"."""
        return {
            f"{name}:{metric}": figure for name, part in self.attributes.items()
            for metric, figure in part.figures().items()
        }  # fmt: skip


def labelled_boxes(now: Snapshot, task: Task, samples: Samples, predictions: pa.Table) -> LabelledBoxes:
    """The predictions of one detection task (key, task, boxes) beside its known labels."""
    beside = _Beside.of(now, task, samples, predictions)
    rows, known, predicted = beside.rows, beside.known[0], beside.predicted[0]
    batches = judging_batches(now, task, samples)
    weights = label_weights(batches, rows, np.ones(len(samples.ids), np.bool_)) * samples.weights[rows]
    by_row = np.zeros(len(samples.ids))
    by_row[rows] = weights
    return LabelledBoxes(
        rows=rows, weights=weights, samples=samples, known=known, predicted=predicted, batches=batches,
        sums=BoxSums.of(predicted, known, by_row, samples.groups),
        attributes=attribute_sums(task, beside.known, beside.predicted, beside.given, by_row, samples.groups),
    )  # fmt: skip


def boxes_beside(now: Snapshot, task: Task, samples: Samples, predictions: pa.Table) -> tuple[Ints, Boxes, Boxes]:
    """The images whose boxes are known and predicted (none, too), as positions [n] in `samples`; the known boxes on
    them, and the predicted ones."""
    beside = _Beside.of(now, task, samples, predictions)
    return beside.rows, beside.known[0], beside.predicted[0]


@dataclass(frozen=True, kw_only=True)
class _Beside:
    """Boxes of the images `rows`, and what Arrow holds of each; `given` are known ones as the run saw them."""

    rows: Ints
    known: tuple[Boxes, pa.Array]
    predicted: tuple[Boxes, pa.Array]
    given: tuple[Boxes, pa.Array]

    @classmethod
    def of(cls, now: Snapshot, task: Task, samples: Samples, predictions: pa.Table) -> "_Beside":
        labels = now.labels(task.name)
        labels = labels.filter(pc.equal(labels["state"], KNOWN))
        known_rows = rows_of(samples.ids, labels)
        mine = predictions.filter(pc.equal(predictions["task"], task.name))
        found = pc.fill_null(pc.index_in(mine["key"], value_set=samples.keys), -1).to_numpy()
        rows = np.intersect1d(known_rows, found[found >= 0])
        inside = np.zeros(len(samples.ids), np.bool_)
        inside[rows] = True
        kept, here = (found >= 0) & inside[found], inside[known_rows]
        mine, found = mine.filter(pa.array(kept)), found[kept]
        given = mine["given"] if "given" in mine.column_names else mine["boxes"].slice(0, 0)
        return cls(
            rows=rows, predicted=_boxes(mine["boxes"], found, task), given=_boxes(given, found[: len(given)], task),
            known=_boxes(labels["boxes"].filter(pa.array(here)), known_rows[here], task),
        )  # fmt: skip


def _boxes(lists: pa.ChunkedArray, images: Ints, task: Task) -> tuple[Boxes, pa.Array]:
    """The boxes of images [n], from a list for each, and what Arrow holds of them; boxes of labels have no score and
    may be a crowd."""
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    flat = pc.list_flatten(lists)
    flat = flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat
    names = [field.name for field in flat.type]
    column = {name: flat.field(name) for name in names}
    n = len(flat)
    crowd = ignored_boxes(flat)
    kept = np.asarray(column["code"].to_numpy(zero_copy_only=False), np.int64) < len(task.classes)
    corners = np.stack([column[side].to_numpy(zero_copy_only=False) for side in "xywh"], axis=1).reshape(n, 4)
    made = Boxes(
        images=np.repeat(images, counts), codes=np.asarray(column["code"].to_numpy(zero_copy_only=False), np.int64),
        corners=corners, crowd=crowd,
        scores=column["score"].to_numpy(zero_copy_only=False) if "score" in names else np.ones(n),
    )  # fmt: skip
    return made.taken(kept), flat.filter(pa.array(kept))
