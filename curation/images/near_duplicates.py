"""Near-duplicates by perceptual hash, or by embedding: images that a split must not part."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from curation.errors import BadInput
from curation.images.embeddings import Floats

__all__ = ["MAX_DISTANCE", "SIMILARITY", "near_duplicate_groups", "near_duplicate_vectors"]

MAX_DISTANCE = 4
"""Bits of 64 in which near-duplicates may differ. Of 1,484 traffic-light crops, 4 finds a twin in the published train
split for 15% of the published test crops, never of another class, and no group exceeds 26; 8 chains 190 crops."""

SIMILARITY = 0.95
"""Cosine of standardised vectors from which two images are taken for near-duplicates."""

_LIMIT = 16
_BLOCK = 2048
_ROUNDING = 1e-6  # of float32: a vector and its copy must meet a similarity of 1
_EDGES = 1 << 20  # pairs that wait to be merged: 16 MB

_Ids = npt.NDArray[np.int64]
_Hashes = npt.NDArray[np.uint64]


def near_duplicate_groups(
    keys: Sequence[str], hashes: Sequence[int] | npt.NDArray[np.uint64], max_distance: int = MAX_DISTANCE
) -> list[str]:
    """The group of each image: the smallest key among the images that a chain of near-duplicates links to it.

    `hashes` are the perceptual hashes of `keys` (`ImageFacts.phash`, 64 bits); two images are near-duplicates if theirs
    differ in at most `max_distance` bits, 0 to 16 (else BadInput). The result is exact and does not depend on order.
    """
    if not 0 <= max_distance <= _LIMIT:
        raise BadInput(f"max_distance {max_distance}: must be 0 to {_LIMIT} bits; take {MAX_DISTANCE}")
    distinct, which = np.unique(np.asarray(hashes, np.uint64), return_inverse=True)
    return _named(keys, _linked(distinct, max_distance)[which])


def near_duplicate_vectors(keys: Sequence[str], vectors: Floats, similarity: float = SIMILARITY) -> list[str]:
    """The same from `vectors` [n, D]: images are near-duplicates from this cosine on, above 0 and at most 1.

    Every pair is compared, in blocks of 2,048: memory does not grow beyond the vectors and one block, time grows with
    the square of n.
    """
    if not 0 < similarity <= 1:
        raise BadInput(f"similarity {similarity}: must be above 0 and at most 1; take {SIMILARITY}")
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    units = vectors / np.where(lengths > 0, lengths, 1.0)[:, None]
    groups: _Ids = np.arange(len(keys), dtype=np.int64)
    for low in range(0, len(keys), _BLOCK):
        for start in range(low, len(keys), _BLOCK):
            close = units[low : low + _BLOCK] @ units[start : start + _BLOCK].T >= similarity - _ROUNDING
            left, right = np.nonzero(close)
            groups = _merged(groups, [(left + low, right + start)])
    return _named(keys, groups)


def _named(keys: Sequence[str], groups: _Ids) -> list[str]:
    """Each group called by its smallest key."""
    numbers: list[int] = groups.tolist()
    names: dict[int, str] = {}
    for group, key in zip(numbers, keys, strict=True):
        names[group] = min(names.get(group, key), key)
    return [names[group] for group in numbers]


def _linked(hashes: _Hashes, max_distance: int) -> _Ids:
    """A group number for each of the distinct hashes."""
    groups: _Ids = np.arange(len(hashes), dtype=np.int64)
    waiting: list[tuple[_Ids, _Ids]] = []
    count = 0
    for left, right in _close_pairs(hashes, max_distance):
        apart = groups[left] != groups[right]
        waiting.append((left[apart], right[apart]))
        count += len(waiting[-1][0])
        if count > _EDGES:
            groups, waiting, count = _merged(groups, waiting), [], 0
    return _merged(groups, waiting)


def _close_pairs(hashes: _Hashes, max_distance: int) -> Iterator[tuple[_Ids, _Ids]]:
    """Index pairs at most `max_distance` bits apart; a pair may come more than once.

    Of max_distance + 1 bands of bits, two such hashes share at least one (Manku et al., WWW 2007), so only hashes that
    share a band are compared: memory grows with n, time with the pairs that share one.
    """
    for low, high in pairwise(np.linspace(0, 64, max_distance + 2).astype(int).tolist()):
        mask = np.uint64((1 << (high - low)) - 1)
        band = (hashes >> np.uint64(low)) & mask
        order = np.argsort(band, kind="stable")
        yield from _close_in_band(order, band[order], hashes[order], max_distance)


def _close_in_band(order: _Ids, band: _Hashes, hashes: _Hashes, max_distance: int) -> Iterator[tuple[_Ids, _Ids]]:
    """Compare each hash with its 1st, 2nd, ... successor for as long as their bands are equal."""
    at, step = np.arange(len(band) - 1), 1
    while len(at):
        at = at[band[at] == band[at + step]]
        close = at[np.bitwise_count(hashes[at] ^ hashes[at + step]) <= max_distance]
        yield order[close], order[close + step]
        step += 1
        at = at[at + step < len(band)]


def _merged(groups: _Ids, pairs: list[tuple[_Ids, _Ids]]) -> _Ids:
    """Groups, renumbered, after joining the two of every pair."""
    if not pairs:
        return groups
    from scipy.sparse import coo_array  # loads half of scipy, which most commands do not need
    from scipy.sparse.csgraph import connected_components

    left, right = (groups[np.concatenate(side)] for side in zip(*pairs, strict=True))
    links = coo_array((np.ones(len(left), bool), (left, right)), shape=(len(groups), len(groups)))
    merged: _Ids = connected_components(links, directed=False)[1].astype(np.int64)
    return merged[groups]
