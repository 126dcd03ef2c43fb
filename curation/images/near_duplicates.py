"""Groups of near-duplicates by perceptual hash or by embedding: images that must share a split."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from curation.arrays import Float32s, Ints, UInt64s
from curation.errors import BadInput

__all__ = ["MAX_DISTANCE", "SIMILARITY", "near_duplicate_groups", "near_duplicate_vectors"]

MAX_DISTANCE = 4
"""Bits of 64 in which near-duplicates may differ. Of 1,484 traffic-light crops, a distance of 4 finds a near-duplicate
in the published train split for 15% of the published test crops, never of another class, and no group exceeds 26
crops; a distance of 8 chains 190 crops."""

SIMILARITY = 0.95
"""Least cosine of the standardised vectors of two near-duplicates."""

_LIMIT = 16
_BLOCK = 2048
_ROUNDING = 1e-6  # of float32: a vector and its copy must reach a similarity of 1
_EDGES = 1 << 20  # pairs collected before a merge: 16 MB


def near_duplicate_groups(
    keys: Sequence[str], hashes: Sequence[int] | UInt64s, max_distance: int = MAX_DISTANCE
) -> list[str]:
    """The group of each image: the smallest key among the images that a chain of near-duplicates links to it.

    `hashes` are the perceptual hashes of `keys` (`ImageFacts.phash`, 64 bits); two images are near-duplicates if their
    hashes differ in at most `max_distance` bits, 0 to 16 (otherwise BadInput). The result is exact and independent of
    the order of images.

    >>> near_duplicate_groups(["c", "a", "b"], [0b111, 0b110, 0xFFFF0000])
    ['a', 'a', 'b']
    """
    if not 0 <= max_distance <= _LIMIT:
        raise BadInput(f"max_distance {max_distance}: must be 0 to {_LIMIT} bits; use {MAX_DISTANCE}")
    distinct, which = np.unique(np.asarray(hashes, np.uint64), return_inverse=True)
    return _named(keys, _linked(distinct, max_distance)[which])


def near_duplicate_vectors(keys: Sequence[str], vectors: Float32s, similarity: float = SIMILARITY) -> list[str]:
    """The group of each image, as above, from `vectors` [n, D]: two images are near-duplicates if the cosine of their
    vectors is at least `similarity`, above 0 and at most 1.

    Every pair is compared, in blocks of 2,048 images: memory holds the vectors and one block, time grows
    with n squared.
    """
    if not 0 < similarity <= 1:
        raise BadInput(f"similarity {similarity}: must be above 0 and at most 1; use {SIMILARITY}")
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    units = vectors / np.where(lengths > 0, lengths, 1.0)[:, None]
    groups: Ints = np.arange(len(keys), dtype=np.int64)
    for low in range(0, len(keys), _BLOCK):
        for start in range(low, len(keys), _BLOCK):
            close = units[low : low + _BLOCK] @ units[start : start + _BLOCK].T >= similarity - _ROUNDING
            left, right = np.nonzero(close)
            groups = _merged(groups, [(left + low, right + start)])
    return _named(keys, groups)


def _named(keys: Sequence[str], groups: Ints) -> list[str]:
    """The name of each image's group: its smallest key."""
    numbers: list[int] = groups.tolist()
    names: dict[int, str] = {}
    for group, key in zip(numbers, keys, strict=True):
        names[group] = min(names.get(group, key), key)
    return [names[group] for group in numbers]


def _linked(hashes: UInt64s, max_distance: int) -> Ints:
    """A group number for each of these distinct hashes."""
    groups: Ints = np.arange(len(hashes), dtype=np.int64)
    waiting: list[tuple[Ints, Ints]] = []
    count = 0
    for left, right in _close_pairs(hashes, max_distance):
        apart = groups[left] != groups[right]
        waiting.append((left[apart], right[apart]))
        count += len(waiting[-1][0])
        if count > _EDGES:
            groups, waiting, count = _merged(groups, waiting), [], 0
    return _merged(groups, waiting)


def _close_pairs(hashes: UInt64s, max_distance: int) -> Iterator[tuple[Ints, Ints]]:
    """Index pairs of hashes at most `max_distance` bits apart; a pair may come more than once.

    If the bits are cut into max_distance + 1 bands, two such hashes share at least one band (Manku et al., WWW 2007).
    So only hashes that share a band are compared: memory grows with n, time with the number of pairs that share a band.
    """
    for low, high in pairwise(np.linspace(0, 64, max_distance + 2).astype(int).tolist()):
        mask = np.uint64((1 << (high - low)) - 1)
        band = (hashes >> np.uint64(low)) & mask
        order = np.argsort(band, kind="stable")
        yield from _close_in_band(order, band[order], hashes[order], max_distance)


def _close_in_band(order: Ints, band: UInt64s, hashes: UInt64s, max_distance: int) -> Iterator[tuple[Ints, Ints]]:
    """Compare each hash with its 1st, 2nd, ... successor while their bands are equal."""
    at, step = np.arange(len(band) - 1), 1
    while len(at):
        at = at[band[at] == band[at + step]]
        close = at[np.bitwise_count(hashes[at] ^ hashes[at + step]) <= max_distance]
        yield order[close], order[close + step]
        step += 1
        at = at[at + step < len(band)]


def _merged(groups: Ints, pairs: list[tuple[Ints, Ints]]) -> Ints:
    """Group numbers after the two groups of every pair are joined."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not pairs:
        return groups
    left, right = (groups[np.concatenate(side)] for side in zip(*pairs, strict=True))
    links = coo_array((np.ones(len(left), bool), (left, right)), shape=(len(groups), len(groups)))
    merged: Ints = connected_components(links, directed=False)[1].astype(np.int64)
    return merged[groups]
