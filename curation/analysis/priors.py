"""Natural priors: the frequency of each class in the field, never counted in labels that mining has enriched."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.presence import PRESENT, UNSEEN, presence_of_labels
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task

__all__ = ["natural_prior"]


def natural_prior(now: Snapshot, task: Task) -> npt.NDArray[np.float64]:
    """The share [C] of each class, with half a label added to each (Jeffreys' prior).

    Of a multilabel task, the share of the images in which somebody looked that each class is there in; these need
    not sum to 1, and are NaN for a class without such a label.

    Counted in the validation split, whose labels are a random sample. Without such labels, counted in the training
    labels that answer the random arm of label requests; without those either, uniform.

    >>> float(natural_prior(now, now.task("color")).sum().round(6))
    1.0
    """
    labels = now.labels(task.name)
    known = labels.filter(pc.equal(labels["state"], 1))
    validation = pa.array(now.split_ids("validation"))
    natural = known.filter(pc.is_in(known["sample_id"], value_set=validation))
    if not len(natural):
        asked = now.requests("answered")
        at_random = asked.filter(pc.and_(pc.equal(asked["arm"], "random"), pc.equal(asked["task"], task.name)))
        natural = known.filter(pc.is_in(known["sample_id"], value_set=at_random["sample_id"].combine_chunks()))
    if task.kind == "multilabel":
        states = presence_of_labels(natural, len(task.classes))
        there, looked = (states == PRESENT).sum(axis=0), (states != UNSEEN).sum(axis=0)
        return np.where(looked > 0, (there + 0.5) / (looked + 1), np.nan)
    counts = np.bincount(natural["code"].to_numpy(), minlength=len(task.classes)) + 0.5
    return np.asarray(counts / counts.sum(), np.float64)
