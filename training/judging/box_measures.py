"""Measures of boxes: AP and AP50 of two runs from sums by group; and which measure a task of any kind has."""

from dataclasses import dataclass
from functools import partial
from typing import Final, Self

import numpy as np
from scipy import sparse

from curation.arrays import Bools, Floats, Ints
from curation.catalog.tasks import Task
from curation.errors import BadInput
from training.evaluation.box_matching import THRESHOLDS
from training.evaluation.box_sums import RECALLS, BoxSums
from training.evaluation.labelled_boxes import BOX_METRICS
from training.judging.attribute_measures import AttributeMeasure, attribute_metrics
from training.judging.bounds import Bound, effective_labels
from training.judging.class_measures import ClassMeasure
from training.judging.group_sums import PairedSums
from training.judging.measures import POINTS, Measure
from training.judging.paired_runs import AnyPair, PairedBoxes

__all__ = ["AnyMeasure", "BoxMeasure", "measure_of"]

MOST_SCORES: Final = 64
"""Scores of a class at which a ranking is cut; more are merged into so many equally common ones."""
TINY: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class BoxMeasure:
    """A metric of a detection task: `name` is "map" (COCO's AP) or "ap50"; an interface as that of `Measure`."""

    task: Task
    name: str
    unit: str = POINTS
    scale: float = 100.0
    sign: int = 1

    @classmethod
    def of(cls, task: Task, text: str = "") -> Self:
        """The measure that `text` names, by default AP; BadInput for any other."""
        if text and text not in BOX_METRICS:
            *most, last = (*BOX_METRICS, *attribute_metrics(task))
            raise BadInput(f"metric {text!r} of {task.name}: a detection task has {', '.join(most)} and {last}")
        return cls(task=task, name=text or BOX_METRICS[0])

    @property
    def text(self) -> str:
        """The measure as it is written."""
        return self.name

    def undefined(self, pair: AnyPair) -> str:
        """Why the labels do not define the measure; "" where they do."""
        assert isinstance(pair, PairedBoxes)
        if not len(pair.first.rows):
            return "no label is known"
        return "" if pair.first.sums.classes() else "no image has an object"

    def sums(self, pair: AnyPair) -> PairedSums | None:
        """The sums of both runs; None where the labels do not define the measure."""
        assert isinstance(pair, PairedBoxes)
        both = pair.first.sums, pair.second.sums
        if self.undefined(pair):
            return None
        overlaps = len(THRESHOLDS) if self.name == "map" else 1
        codes = both[0].classes()
        parts = [_class_sums(both, code, overlaps) for code in codes]
        made = PairedSums.of_means_over(parts, [1 / len(codes)] * len(codes))
        means = [part.mean_average_precision() for part in both]
        exact = [mean[BOX_METRICS.index(self.name)] for mean in means if mean]
        return PairedSums(**{**vars(made), "exact": (exact[0], exact[1])})

    def bound(self, pair: AnyPair, *, z: float) -> Bound:
        """How far the measure of the second run may be below that of the first; the measure must be defined."""
        assert isinstance(pair, PairedBoxes)
        sums = self.sums(pair)
        assert sums is not None
        objects = pair.first.sums
        return Bound.of_sums(sums, z=z, effective=effective_labels(objects.object_weights, objects.object_groups))


AnyMeasure = Measure | BoxMeasure | ClassMeasure | AttributeMeasure


def measure_of(task: Task, text: str = "") -> AnyMeasure:
    """The measure of a task that `text` names, by default its own; BadInput for one that it does not have."""
    if task.kind == "multilabel":
        return ClassMeasure.of(task, text)
    if task.kind == "detection" and text in attribute_metrics(task):
        return AttributeMeasure.of(task, text)
    return BoxMeasure.of(task, text) if task.kind == "detection" else Measure.of(task, text)


def _class_sums(runs: tuple[BoxSums, BoxSums], code: int, overlaps: int) -> PairedSums:
    """The sums of one class: for each group the weight of found and of judged boxes at falling scores, and objects."""
    own = [sums.codes == code for sums in runs]
    finds = [sums.found[here].any(axis=1) for sums, here in zip(runs, own, strict=True)]
    edges = np.unique(
        np.concatenate([sums.scores[here][hit] for sums, here, hit in zip(runs, own, finds, strict=True)])
    )
    if len(edges) > MOST_SCORES:
        edges = np.unique(np.quantile(edges, np.linspace(0, 1, MOST_SCORES)))
    names = np.unique(np.concatenate([*(sums.groups[here] for sums, here in zip(runs, own, strict=True)),
                                      runs[0].object_groups[runs[0].object_codes == code]]))  # fmt: skip
    parts = [_by_group(sums, here, code, names, edges, overlaps) for sums, here in zip(runs, own, strict=True)]
    bins = len(edges) + 1
    return PairedSums(groups=names, first=parts[0], second=parts[1], value=partial(_average_precision, bins=bins))


def _by_group(sums: BoxSums, here: Bools, code: int, names: Ints, edges: Floats, overlaps: int) -> sparse.csr_array:
    """Sums [groups, 2 bins overlaps + 1] of one run: found, then judged (each bins x overlaps), then objects."""
    size = (len(edges) + 1) * overlaps
    place = len(edges) - np.searchsorted(edges, sums.scores[here], side="right")  # the highest scores first
    rows = np.searchsorted(names, sums.groups[here])
    cells = place[:, None] * overlaps + np.arange(overlaps)
    objects = sums.object_codes == code
    of_objects = np.searchsorted(names, sums.object_groups[objects])
    entries = [
        (np.where(kind[here][:, :overlaps], sums.weights[here][:, None], 0.0).ravel(), np.repeat(rows, overlaps),
         (cells + start).ravel())
        for start, kind in ((0, sums.found), (size, sums.judged))
    ]  # fmt: skip
    entries.append((sums.object_weights[objects], of_objects, np.full(len(of_objects), 2 * size)))
    data, row, column = (np.concatenate(each) for each in zip(*entries, strict=True))
    return sparse.coo_array((data, (row, column)), shape=(len(names), 2 * size + 1)).tocsr()


def _average_precision(sums: Floats, *, bins: int) -> Floats:
    """COCO's average precision of sums [..., 2 bins T + 1], the mean over T overlaps; precision at 101 recalls."""
    found, judged = (part.reshape(*sums.shape[:-1], bins, -1) for part in np.split(sums[..., :-1], 2, axis=-1))
    objects = sums[..., -1][..., None, None]
    hits, total = np.cumsum(found, axis=-2), np.cumsum(judged, axis=-2)
    precision = np.where(total > TINY, hits / np.maximum(total, TINY), 0.0)
    ahead = np.maximum.accumulate(precision[..., ::-1, :], axis=-2)[..., ::-1, :]
    recall = np.minimum(hits / np.maximum(objects, TINY), 1.0)
    reached = np.searchsorted(RECALLS, recall, side="right")
    gained = np.diff(reached, axis=-2, prepend=0)
    found_precision = (gained * ahead).sum(axis=-2).mean(axis=-1) / len(RECALLS)
    return np.asarray(np.where(objects[..., 0, 0] > TINY, found_precision, np.nan), np.float64)
