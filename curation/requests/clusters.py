"""One sample of each cluster of vectors that holds no label yet, the densest clusters first."""

from typing import Final

import numpy as np

from curation.arrays import Bools, Float32s, Ints

__all__ = ["k_means", "one_of_each_cluster"]


MOST_ROWS: Final = 20_000
"""At most so many vectors are clustered, drawn at random from more: this bounds time and memory."""
PASSES: Final = 8


def one_of_each_cluster(vectors: Float32s, taken: Bools, count: int, generator: "np.random.Generator") -> Ints:
    """Up to `count` rows of `vectors` [n, D] that are not `taken` [n]: one, drawn at random, of each cluster without a
    taken row, the largest first.

    k-means with as many clusters as rows are taken and wanted (at most half of the rows).
    """
    rows = np.flatnonzero(~taken)
    if len(rows) > MOST_ROWS:
        rows = np.sort(generator.permutation(rows)[:MOST_ROWS])
    rows = np.concatenate([rows, np.flatnonzero(taken)])
    clusters = min(count + int(taken.sum()), max(1, len(rows) // 2))
    if not count or not len(rows):
        return np.empty(0, np.int64)
    cluster = k_means(vectors[rows], clusters, generator)
    covered = np.bincount(cluster[taken[rows]], minlength=clusters) > 0
    size = np.where(covered, 0, np.bincount(cluster, minlength=clusters))
    order = np.argsort(-size, kind="stable")[: int((size > 0).sum())][:count]
    return np.asarray([rows[generator.choice(np.flatnonzero(cluster == code))] for code in order], np.int64)


def k_means(vectors: Float32s, clusters: int, generator: "np.random.Generator") -> Ints:
    """The cluster [n] of each vector (Lloyd 1982), from centres that are drawn at random."""
    centres = vectors[generator.choice(len(vectors), clusters, replace=False)].copy()
    columns = np.arange(len(vectors))
    for turn in range(PASSES + 1):
        nearest = ((centres**2).sum(axis=1) - 2 * vectors @ centres.T).argmin(axis=1)
        if turn == PASSES:
            break
        member = np.zeros((clusters, len(vectors)), np.float32)
        member[nearest, columns] = 1
        held = member.sum(axis=1)[:, None]
        centres = np.where(held > 0, member @ vectors / np.maximum(held, 1), centres)
    return np.asarray(nearest, np.int64)
