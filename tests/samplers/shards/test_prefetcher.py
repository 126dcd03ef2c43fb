"""The prefetching cache: any order is read within its size, with hardly more fetches than the optimal rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.shards.prefetcher import PAGE, Cache, Prefetcher, next_uses


def belady(order: list[int], pages: list[int], room: int) -> int:
    """The number of pages that Belady's rule fetches, from its definition."""
    held: dict[int, int] = {}
    fetched = 0
    for now, row in enumerate(order):
        if row not in held:
            fetched += pages[row]
            while sum(held.values()) + pages[row] > room:
                rest = {other: (order.index(other, now) if other in order[now:] else len(order)) for other in held}
                del held[max(rest, key=lambda other: rest[other])]
            held[row] = pages[row]
    return fetched


def read_all(order: np.ndarray, sizes: np.ndarray, room: int) -> tuple[int, int]:
    """Read through a `Prefetcher`: the pages fetched, and the largest number of pages in the cache."""
    fetched, most = 0, 0

    def fetch(rows: list[int]) -> list[memoryview]:
        nonlocal fetched
        fetched += int((-(-sizes[rows] // PAGE)).sum())
        return [memoryview(bytes([row % 251]) * int(sizes[row])) for row in rows]

    ahead = Prefetcher(order, sizes, np.arange(len(sizes), dtype=np.int32) % 3, fetch, Cache(bytes=room * PAGE))
    try:
        for row in order.tolist():
            data = ahead.take(row)
            assert bytes(data) == bytes([row % 251]) * int(sizes[row])
            most = max(most, len(ahead._pages) - ahead._free)
    finally:
        ahead.close()
    return fetched, most


@given(st.lists(st.integers(0, 12), min_size=1, max_size=80), st.integers(4, 40), st.integers(0, 99))
def test_any_order_is_read_with_any_cache_size(order: list[int], room: int, seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(1, 4 * PAGE, 13).astype(np.int32)
    fetched, most = read_all(np.array(order), sizes, room)
    assert most <= room
    distinct = sum(int(-(-sizes[row] // PAGE)) for row in set(order))
    assert distinct <= fetched
    if room >= distinct * 2:
        assert fetched == distinct


@pytest.mark.parametrize("kind", ["uniform", "skewed", "sweeps"])
def test_little_more_is_fetched_than_beladys_rule_would(kind: str) -> None:
    generator, rows = np.random.default_rng(0), 400
    order = {
        "uniform": lambda: generator.integers(0, rows, 3000),
        "skewed": lambda: (rows * generator.random(3000) ** 3).astype(np.int64),
        "sweeps": lambda: np.concatenate([generator.permutation(rows) for _ in range(7)]),
    }[kind]()
    sizes = generator.integers(2 * PAGE, 6 * PAGE, rows).astype(np.int32)
    pages = (-(-sizes // PAGE)).tolist()
    room = sum(pages) // 4
    fetched, most = read_all(np.asarray(order, np.int64), sizes, room)
    assert fetched <= 1.1 * belady(order.tolist(), pages, room)
    assert most <= room


@given(st.lists(st.integers(0, 5)))
def test_next_uses(order: list[int]) -> None:
    for now, following in enumerate(next_uses(np.array(order, np.int64)).tolist()):
        rest = order[now + 1 :]
        assert following == (now + 1 + rest.index(order[now]) if order[now] in rest else np.iinfo(np.int64).max)
