"""The order of draws: exact quotas, and low discrepancy at every prefix. No generator has a state."""

import heapq
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from samplers.plan.rates import Ints

__all__ = ["Hashes", "Places", "deal", "hash64", "interleave", "mixed", "quotas"]

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int32]
Node = tuple[int, int, tuple[Any, ...]]


def hash64(seed: int, *indices: Ints | int) -> Hashes:
    """A 64-bit hash of (seed, indices), elementwise; the finaliser of splitmix64 (Steele et al. 2014) on each part."""
    state = np.asarray(mixed(np.uint64(seed % 2**64)))
    for part in indices:
        with np.errstate(over="ignore"):
            state = mixed(state ^ mixed(np.asarray(part).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)))
    return state


def quotas(rates: Ints, draws: int, seed: int, phase: int = 0) -> Ints:
    """How many of `draws` each cell [K] gets: systematic rounding of the cumulative integer rates.

    Each cell is within one draw of its exact expectation, and the expectation over seeds is exact.
    """
    total = int(rates.sum())
    start = int(hash64(seed, phase)) % total
    edges = [0]
    cumulative = 0
    for rate in rates.tolist():
        cumulative += rate
        edges.append((cumulative * draws + start) // total)
    return np.diff(np.asarray(edges, np.int64))


def interleave(counts: Ints) -> npt.NDArray[np.int32]:
    """A sequence with counts[k] occurrences of each k [K], near its proportion at every prefix."""
    order = np.zeros(int(counts.sum()), np.int32)
    for symbol, places in deal(counts, np.arange(len(order), dtype=np.int32)):
        order[places] = symbol
    return order


def deal(counts: Ints, places: Places) -> Iterator[tuple[int, Places]]:
    """Deal ascending places to symbols, counts[k] to each k [K], near its proportion at every prefix.

    Yields each symbol that gets any, with its places, ascending. A Huffman tree over the counts; at each node the
    places are dealt to the two sides by integer rounding, which keeps each side within half a place at every prefix of
    the node. Deviations add up only along a symbol's path, and frequent symbols have short paths.
    """
    nodes: list[Node] = [(int(n), k, ()) for k, n in enumerate(counts) if n > 0]
    heapq.heapify(nodes)
    serial = len(counts)
    while len(nodes) > 1:
        first, second = heapq.heappop(nodes), heapq.heappop(nodes)
        heapq.heappush(nodes, (first[0] + second[0], serial, (first, second)))
        serial += 1
    stack: list[tuple[Node, Places]] = [(nodes[0], places)] if nodes else []
    while stack:
        (size, symbol, sides), mine = stack.pop()
        if sides:
            left, right = sides
            steps = (np.arange(size + 1, dtype=np.int64) * (2 * left[0]) + size) // (2 * size)
            is_left = steps[1:] != steps[:-1]
            stack += [(left, mine[is_left]), (right, mine[~is_left])]
        else:
            yield symbol, mine


def mixed(x: Hashes | np.uint64) -> Hashes:
    """A one-to-one scrambling of 64 bits."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))
