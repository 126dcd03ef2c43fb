"""Which tasks are labelled together: for each pair of tasks, the number of samples where both are known."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curation.catalog.snapshot import Snapshot
from curation.rows import tabled

__all__ = ["Hole", "colabelled", "holes"]

WORD = 64

NEARLY: Final = 0.1
"""Two tasks are (nearly) never known together if they are on at most this share of the samples expected by chance."""
LEAST: Final = 5.0
"""Pairs with fewer expected samples than this are left out: even 0 proves nothing there."""


@dataclass(frozen=True, kw_only=True)
class Hole:
    """Two tasks that are known together on `both` samples, where chance would give `expected`.

    `split` is where samples are counted: train, or "" (all samples) while nothing is split yet.
    """

    one: str
    other: str
    both: int
    expected: float
    split: str


@tabled(Hole)
def holes(now: Snapshot, most: int) -> list[Hole]:
    """At most `most` pairs of tasks that are (nearly) never known on the same sample, the largest gap first.

    Chance gives n_a n_b / N, for n_a and n_b known labels among the N samples that may be trained on. Evaluation
    samples do not count, because nobody chooses which of them are labelled.
    """
    split = "train" if len(now.training_ids()) else ""
    pool = now.training_ids(before_split=True)
    both, names = colabelled(now, pool), list(now.tasks())
    known = np.diag(both)
    expected = np.outer(known, known) / max(1, len(pool))
    first, second = np.nonzero(np.triu((expected >= LEAST) & (both <= NEARLY * expected), 1))
    order = np.argsort(both[first, second] - expected[first, second], kind="stable")[:most]
    return [
        Hole(one=names[a], other=names[b], both=int(both[a, b]), expected=float(expected[a, b]), split=split)
        for a, b in zip(first[order], second[order], strict=True)
    ]


def colabelled(now: Snapshot, among: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.int64]:
    """Number of samples on which both tasks are known, for each pair [T, T]; T tasks in the order of `now.tasks()`.

    The diagonal counts the known labels of each task. `among` are the ids of the samples to count (default: all).

    >>> colabelled(now).shape == (len(now.tasks()), len(now.tasks()))
    True
    """
    bits = _bits(now)
    if among is not None:
        bits &= _packed(among, bits.shape[1])
    counts = np.zeros((len(bits), len(bits)), np.int64)
    for task in range(len(bits)):
        both = np.bitwise_count(bits[task] & bits[task:])
        counts[task, task:] = counts[task:, task] = both.sum(axis=1, dtype=np.int64)
    return counts


def _bits(now: Snapshot) -> npt.NDArray[np.uint64]:
    """One bit a sample and task, set where the label is known: [T, words], 64 samples a word."""
    known, tasks = now.labels.known(), len(now.tasks())
    ids = [np.asarray(known[name].to_numpy(), np.int64) for name in ("task_id", "sample_id")]
    words = int(ids[1].max()) // WORD + 1 if len(known) else 0
    flags = np.zeros((tasks, words * WORD), np.bool_)
    flags[ids[0], ids[1]] = True
    return np.packbits(flags, axis=1).view(np.uint64)


def _packed(ids: npt.NDArray[np.int64], words: int) -> npt.NDArray[np.uint64]:
    flags = np.zeros(words * WORD, np.bool_)
    flags[ids[ids < len(flags)]] = True
    return np.packbits(flags).view(np.uint64)
