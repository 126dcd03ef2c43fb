"""Quotas, order and hashing: exact where documented, and unchanged for ever."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.plan.interleave import hash64, interleave, quotas


def order_of(counts: np.ndarray) -> np.ndarray:
    """The symbol at each position."""
    order = np.full(int(counts.sum()), -1)
    for symbol, positions in interleave(counts, np.arange(len(order), dtype=np.int32)):
        order[positions] = symbol
    return order


rates = st.lists(st.integers(1, 10**6), min_size=1, max_size=40).map(np.array)


@given(rates=rates, draws=st.integers(1, 5000), seed=st.integers(0, 2**32))
def test_quota_is_within_one_draw(rates: np.ndarray, draws: int, seed: int) -> None:
    quota = quotas(rates, draws, seed)
    assert quota.sum() == draws
    assert np.abs(quota - rates / rates.sum() * draws).max() < 1


def test_quota_is_exact_in_expectation() -> None:
    rates = np.array([5, 3, 1, 1, 7])
    mean = np.mean([quotas(rates, 10, seed) for seed in range(4000)], axis=0)
    assert mean == pytest.approx(rates / rates.sum() * 10, abs=0.04)  # 5 standard errors


@given(counts=st.lists(st.integers(0, 300), min_size=1, max_size=20).filter(any).map(np.array))
def test_interleave_gives_every_count(counts: np.ndarray) -> None:
    assert np.bincount(order_of(counts), minlength=len(counts)).tolist() == counts.tolist()


def deviation(order: np.ndarray, counts: np.ndarray) -> float:
    seen = np.cumsum(order[:, None] == np.arange(len(counts)), axis=0)
    expected = np.arange(1, len(order) + 1)[:, None] * counts / counts.sum()
    return float(np.abs(seen - expected).max())


@given(counts=st.lists(st.integers(1, 400), min_size=2, max_size=12).map(np.array))
def test_every_prefix_is_near_its_proportion(counts: np.ndarray) -> None:
    assert deviation(order_of(counts), counts) <= 2.5


def test_mixture_of_the_loader_benchmarks_deviates_by_less_than_a_draw() -> None:
    counts = np.array([32_000, 19_200, 9_600, 3_200])  # a random mixer strays by 138 here
    assert deviation(order_of(counts), counts) <= 1


def test_hash_never_changes() -> None:
    assert hash64(1, 2, np.arange(3)).tolist() == HASHES


def test_hash_looks_uniform() -> None:
    bits = np.unpackbits(hash64(7, np.arange(20_000)).view(np.uint8)).reshape(20_000, 64)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.02  # 5.6 standard errors


HASHES = [2045439423126265420, 7967000268478348945, 10358654526021256163]
