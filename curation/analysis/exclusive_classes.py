"""Classes of two tasks that are never labelled together, although chance alone would bring them together."""

from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import pyarrow.compute as pc

from curation.arrays import Ints
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from curation.rows import tabled

__all__ = ["ExclusiveClasses", "exclusive_classes"]

FEWEST: Final = 10.0
"""Bursts in which chance would bring the classes together: then it misses all of them once in 20,000 times (e^-10)."""


@dataclass(frozen=True, kw_only=True)
class ExclusiveClasses:
    """Class `first_code` of the task `first` and `second_code` of `second`: both are known on `images` training images,
    where chance would bring the two classes together in `expected` bursts, and none has both."""

    first: str
    first_code: int
    second: str
    second_code: int
    images: int
    expected: float


@tabled(ExclusiveClasses)
def exclusive_classes(now: Snapshot) -> list[ExclusiveClasses]:
    """The pairs of classes of two binary or categorical tasks that no training image has, the most expected first.

    With n_a and n_b images of the two classes among N images of G groups on which both tasks are known, chance gives
    n_a n_b / N images. Images of a group are alike, so that counts as G / N times as many bursts. Before there is a
    split, all images count.
    """
    pool = now.training_ids(before_split=True)
    groups = _groups(now, pool)
    tasks = [task for task in now.tasks().values() if task.kind in ("binary", "categorical")]
    codes = {task.name: _codes(now, task.name, pool) for task in tasks}
    found = list[ExclusiveClasses]()
    for first, second in combinations(tasks, 2):
        both = np.flatnonzero((codes[first.name] >= 0) & (codes[second.name] >= 0))
        if not len(both):
            continue
        counts = np.zeros((len(first.classes), len(second.classes)))
        np.add.at(counts, (codes[first.name][both], codes[second.name][both]), 1)
        bursts = len(np.unique(groups[both])) / len(both)
        expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / len(both) * bursts
        found += [
            ExclusiveClasses(
                first=first.name, first_code=a, second=second.name, second_code=b, images=len(both),
                expected=float(expected[a, b]),
            )
            for a, b in np.argwhere((counts == 0) & (expected >= FEWEST)).tolist()
        ]  # fmt: skip
    return sorted(found, key=lambda pair: -pair.expected)


def _codes(now: Snapshot, task: str, pool: Ints) -> Ints:
    """The class of each sample of `pool` [n], sorted ids; -1 where it is not known."""
    labels = now.labels(task)
    known = labels.filter(pc.equal(labels["state"], KNOWN))
    ids = known["sample_id"].to_numpy()
    inside = np.isin(ids, pool)
    codes: Ints = np.full(len(pool), -1, np.int64)
    codes[np.searchsorted(pool, ids[inside])] = known["code"].to_numpy()[inside]
    return codes


def _groups(now: Snapshot, pool: Ints) -> Ints:
    """The group of each sample of `pool` [n], sorted ids, as a code."""
    samples = now.samples().sort_by("sample_id")
    codes = pc.dictionary_encode(samples["group"].combine_chunks()).indices.to_numpy()
    return np.asarray(codes[np.searchsorted(samples["sample_id"].to_numpy(), pool)], np.int64)
