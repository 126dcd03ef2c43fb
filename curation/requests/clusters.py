"""One sample of each cluster of vectors that holds no label yet: drawn at random, or the most typical one."""

from typing import Final

import numpy as np

from curation.arrays import Bools, Float32s, Ints
from curation.requests.strategies import some_of

__all__ = ["k_means", "one_of_each_cluster", "typical_of_clusters"]


MOST_ROWS: Final = 20_000
"""At most so many vectors are clustered, drawn at random from more: this bounds time and memory."""
MOST_CLUSTERS: Final = 1_000
"""At most so many clusters."""
PASSES: Final = 8
TYPICAL_CLUSTERS: Final = 500
NEIGHBOURS: Final = 20
SMALLEST: Final = 5
CHUNK: Final = 1_024
"""What Hacohen et al. chose: at most so many clusters, neighbours by which a sample is typical, and the size from which
a cluster counts; and the rows whose distances are held in memory at once."""


def one_of_each_cluster(vectors: Float32s, taken: Bools, count: int, generator: "np.random.Generator") -> Ints:
    """Up to `count` rows of `vectors` [n, D] that are not `taken` [n]: one, drawn at random, of each cluster without a
    taken row, the largest first.

    k-means with as many clusters as rows are taken and wanted, at most half of the rows and `MOST_CLUSTERS`, or as many
    as are wanted.
    """
    rows = _some_rows(taken, generator)
    clusters = min(count + int(taken.sum()), max(1, len(rows) // 2), max(count, MOST_CLUSTERS))
    if not count or not len(rows):
        return np.empty(0, np.int64)
    cluster = k_means(vectors[rows], clusters, generator)
    covered = np.bincount(cluster[taken[rows]], minlength=clusters) > 0
    size = np.where(covered, 0, np.bincount(cluster, minlength=clusters))
    order = np.argsort(-size, kind="stable")[: int((size > 0).sum())][:count]
    return np.asarray([rows[generator.choice(np.flatnonzero(cluster == code))] for code in order], np.int64)


def typical_of_clusters(vectors: Float32s, taken: Bools, count: int, generator: "np.random.Generator") -> Ints:
    """Up to `count` rows of `vectors` [n, D] that are not `taken` [n], by TypiClust (Hacohen, Dekel and Weinshall 2022,
    "Active learning on a budget: opposite strategies suit high and low budgets").

    k-means with as many clusters as rows are taken and wanted (at most `TYPICAL_CLUSTERS`). The clusters with the
    fewest taken rows come first, of those the largest; each gives its most typical row, whose `NEIGHBOURS` nearest of
    its cluster are nearest in the mean, and so on in turns. Clusters below `SMALLEST` rows give one only where no
    larger one has rows left.
    """
    rows = _some_rows(taken, generator)
    clusters = min(count + int(taken.sum()), max(1, len(rows) // 2), TYPICAL_CLUSTERS)
    if not count or not (~taken).any():
        return np.empty(0, np.int64)
    cluster = k_means(vectors[rows], clusters, generator)
    waiting = [_typical_first(vectors, rows[cluster == code], taken) for code in range(clusters)]
    covered = np.bincount(cluster[taken[rows]], minlength=clusters)
    size = np.bincount(cluster, minlength=clusters)
    found: list[int] = []
    while len(found) < count:
        usable = [code for code in range(clusters) if waiting[code]]
        large = [code for code in usable if size[code] >= SMALLEST] or usable
        if not large:
            break
        code = min(large, key=lambda code: (covered[code], -size[code]))
        found.append(waiting[code].pop(0))
        covered[code] += 1
    return np.asarray(found, np.int64)


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


def _some_rows(taken: Bools, generator: "np.random.Generator") -> Ints:
    """The rows that are not taken, then those that are: all, or `MOST_ROWS` of each at random."""
    parts = (np.flatnonzero(~taken), np.flatnonzero(taken))
    return np.concatenate([some_of(rows, MOST_ROWS, generator) for rows in parts])


def _typical_first(vectors: Float32s, members: Ints, taken: Bools) -> list[int]:
    """The rows of a cluster that are not taken, those with the nearest neighbours in it first."""
    own, free = vectors[members], ~taken[members]
    asked, near = own[free], min(NEIGHBOURS, len(members) - 1)
    if near < 1 or not len(asked):
        return [int(row) for row in members[free]]
    lengths = np.einsum("nd,nd->n", own, own)
    distances = []
    for start in range(0, len(asked), CHUNK):
        part = asked[start : start + CHUNK]
        squares = np.einsum("nd,nd->n", part, part)[:, None] + lengths - 2 * part @ own.T
        squares = np.partition(np.maximum(squares, 0), near, axis=1)[:, : near + 1]
        distances.append(np.sqrt(squares).sum(axis=1) / near)
    return [int(row) for row in members[free][np.argsort(np.concatenate(distances), kind="stable")]]
