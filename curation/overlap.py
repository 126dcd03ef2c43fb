"""Which tasks are labelled together: for every pair of tasks, on how many samples both are known."""

import numpy as np
import numpy.typing as npt

from curation.ledger.snapshot import Snapshot

__all__ = ["overlap"]

WORD = 64


def overlap(now: Snapshot, among: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.int64]:
    """Samples on which both tasks of a pair are known [T, T]; T tasks in the order of `now.tasks()`.

    The diagonal counts the known labels of each. `among` are the ids of the samples that count (default: all).
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
    known, tasks = now.known(), len(now.tasks())
    ids = [np.asarray(known[name].to_numpy(), np.int64) for name in ("task_id", "sample_id")]
    words = int(ids[1].max()) // WORD + 1 if len(known) else 0
    flags = np.zeros((tasks, words * WORD), np.bool_)
    flags[ids[0], ids[1]] = True
    return np.packbits(flags, axis=1).view(np.uint64)


def _packed(ids: npt.NDArray[np.int64], words: int) -> npt.NDArray[np.uint64]:
    flags = np.zeros(words * WORD, np.bool_)
    flags[ids[ids < len(flags)]] = True
    return np.packbits(flags).view(np.uint64)
