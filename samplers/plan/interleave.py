"""The order of draws: exact quotas and low discrepancy at every prefix. Pure functions, no random state."""

import heapq
from collections.abc import Iterator
from typing import Any

import numpy as np

from curation.arrays import Int32s, Ints, UInt64s

__all__ = ["hash64", "interleave", "mix64", "quotas"]

Node = tuple[int, int, tuple[Any, ...]]


def hash64(seed: int, *indices: Ints | int) -> UInt64s:
    """A 64-bit hash of (seed, indices), elementwise, with the finaliser of splitmix64 (Steele et al. 2014).

    >>> hash64(1, 2, np.arange(2)).tolist()
    [2045439423126265420, 7967000268478348945]
    """
    state = np.asarray(mix64(np.uint64(seed % 2**64)))
    for part in indices:
        with np.errstate(over="ignore"):
            state = mix64(state ^ mix64(np.asarray(part).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)))
    return state


def quotas(rates: Ints, draws: int, seed: int, phase: int = 0) -> Ints:
    """The number of `draws` of each cell [K], by systematic rounding of the cumulative integer rates.

    Each quota is within one draw of its exact expectation, and the mean over seeds is exact.

    >>> quotas(np.array([3, 1]), 8, seed=0).tolist()
    [6, 2]
    """
    total = int(rates.sum())
    start = int(hash64(seed, phase)) % total
    edges = [0]
    cumulative = 0
    for rate in rates.tolist():
        cumulative += rate
        edges.append((cumulative * draws + start) // total)
    return np.diff(np.asarray(edges, np.int64))


def interleave(counts: Ints, positions: Int32s) -> Iterator[tuple[int, Int32s]]:
    """Assign ascending `positions` to symbols, counts[k] to each k [K], near its proportion at every prefix.

    Yields each symbol with a positive count, with its positions in ascending order. A Huffman tree over the counts
    splits the positions at each node by integer rounding, which keeps both sides within half a position of their
    proportion at every prefix of the node. Deviations add up along a symbol's path only, and frequent symbols have
    short paths.

    >>> {symbol: at.tolist() for symbol, at in interleave(np.array([4, 2]), np.arange(6, dtype=np.int32))}
    {0: [0, 2, 3, 5], 1: [1, 4]}
    """
    nodes: list[Node] = [(int(n), k, ()) for k, n in enumerate(counts) if n > 0]
    heapq.heapify(nodes)
    serial = len(counts)
    while len(nodes) > 1:
        first, second = heapq.heappop(nodes), heapq.heappop(nodes)
        heapq.heappush(nodes, (first[0] + second[0], serial, (first, second)))
        serial += 1
    stack: list[tuple[Node, Int32s]] = [(nodes[0], positions)] if nodes else []
    while stack:
        (size, symbol, sides), mine = stack.pop()
        if sides:
            left, right = sides
            steps = (np.arange(size + 1, dtype=np.int64) * (2 * left[0]) + size) // (2 * size)
            is_left = steps[1:] != steps[:-1]
            stack += [(left, mine[is_left]), (right, mine[~is_left])]
        else:
            yield symbol, mine


def mix64(x: UInt64s | np.uint64) -> UInt64s:
    """A bijective mix of 64 bits."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))
