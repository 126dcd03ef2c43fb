"""The order of draws: exact quotas, low discrepancy at every prefix, and images by hash. No generator has a state."""

import heapq
from typing import Any

import numpy as np
import numpy.typing as npt

from samplers.rates import Ints

__all__ = ["hash64", "interleave", "quotas", "repeat_in_sweeps"]

Hashes = npt.NDArray[np.uint64]
Node = tuple[int, int, tuple[Any, ...]]


def hash64(seed: int, *indices: Ints | int) -> Hashes:
    """A 64-bit hash of (seed, indices), elementwise; the finaliser of splitmix64 (Steele et al. 2014) on each part."""
    state = np.asarray(_mix(np.uint64(seed % 2**64)))
    for part in indices:
        with np.errstate(over="ignore"):
            state = _mix(state ^ _mix(np.asarray(part).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)))
    return state


def quotas(rates: Ints, draws: int, seed: int) -> Ints:
    """How many of `draws` each cell [K] gets: systematic rounding of the cumulative integer rates.

    Each cell is within one draw of its exact expectation, and the expectation over seeds is exact.
    """
    total = int(rates.sum())
    start = int(hash64(seed, 0)) % total
    edges = [0]
    cumulative = 0
    for rate in rates.tolist():
        cumulative += rate
        edges.append((cumulative * draws + start) // total)
    return np.diff(np.asarray(edges, np.int64))


def interleave(counts: Ints) -> npt.NDArray[np.int32]:
    """A sequence with counts[k] occurrences of each k [K], near its proportion at every prefix.

    A Huffman tree over the counts; at each node the positions are dealt to the two sides by integer rounding, which
    keeps each side within half a draw at every prefix of the node. Deviations add up only along a symbol's path, and
    frequent symbols have short paths.
    """
    order = np.zeros(int(counts.sum()), np.int32)
    nodes: list[Node] = [(int(n), k, ()) for k, n in enumerate(counts) if n > 0]
    heapq.heapify(nodes)
    serial = len(counts)
    while len(nodes) > 1:
        first, second = heapq.heappop(nodes), heapq.heappop(nodes)
        heapq.heappush(nodes, (first[0] + second[0], serial, (first, second)))
        serial += 1
    stack: list[tuple[Node, Ints]] = [(nodes[0], np.arange(len(order)))] if nodes else []
    while stack:
        (size, symbol, sides), places = stack.pop()
        if sides:
            left, right = sides
            steps = (2 * np.arange(size + 1) * left[0] + size) // (2 * size)
            is_left = np.diff(steps).astype(np.bool_)
            stack += [(left, places[is_left]), (right, places[~is_left])]
        else:
            order[places] = symbol
    return order


def repeat_in_sweeps(count: int, size: int, seed: int, *cell: int) -> Ints:
    """`count` indices below `size`: one hashed permutation after another, so that repeats differ by at most one."""
    sweeps = -(-count // size) if size else 0
    indices = np.arange(size)
    parts = [np.argsort(hash64(seed, *cell, sweep, indices), kind="stable") for sweep in range(sweeps)]
    return np.concatenate([np.empty(0, np.int64), *parts])[:count]


def _mix(x: Hashes | np.uint64) -> Hashes:
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))
