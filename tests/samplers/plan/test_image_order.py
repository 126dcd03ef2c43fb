"""Which images are drawn: hot strata cycle through their images, the others follow one pass over the shards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.plan.image_order import HOT, ImageOrder
from samplers.plan.interleave import interleave

DRAWS = 4_000


@st.composite
def cells(draw: st.DrawFn) -> tuple[ImageOrder, np.ndarray, int, int]:
    """An order over samples in shards, the members of a stratum, its earlier draws, and its draws now."""
    samples = draw(st.integers(1, 2_000))
    sweep = ImageOrder(np.arange(samples, dtype=np.int32) // draw(st.integers(1, 100)), draw(st.integers(0, 99)))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    members = np.sort(generator.choice(samples, draw(st.integers(1, samples)), replace=False)).astype(np.int32)
    return sweep, members, draw(st.integers(0, 3_000)), draw(st.integers(0, DRAWS))


@given(cell=cells())
def test_an_image_repeats_only_after_all_others_of_its_stratum(cell: tuple[ImageOrder, np.ndarray, int, int]) -> None:
    sweep, members, earlier, count = cell
    before = sweep.choose(members, earlier, cell=(1, 2), earlier=0, draws=DRAWS)
    after = sweep.choose(members, count, cell=(1, 2), earlier=earlier, draws=DRAWS)
    times = np.bincount(np.searchsorted(members, np.concatenate([before, after])), minlength=len(members))
    assert set(np.concatenate([before, after]).tolist()) <= set(members.tolist())
    assert times.sum() == earlier + count
    assert times.max() - times.min() <= 1


@given(size=st.integers(1, 50), rounds=st.integers(3, 9), seed=st.integers(0, 9))
def test_hot_images_are_cycled_round_robin(size: int, rounds: int, seed: int) -> None:
    sweep = ImageOrder(np.zeros(4_000, np.int32), seed)
    members = np.arange(size, dtype=np.int32)
    assert rounds > HOT * sweep.passes(DRAWS)
    drawn = sweep.choose(members, size * rounds, cell=(0, 0), earlier=0, draws=DRAWS)
    assert (drawn[size:] == drawn[:-size]).all()
    assert len(set(drawn[:size].tolist())) == size


def window_shards(shard_of: np.ndarray, order: np.ndarray, window: int) -> float:
    return float(np.mean([len(np.unique(shard_of[order[at : at + window]])) for at in range(0, len(order), window)]))


def test_cold_draws_of_all_strata_follow_one_cursor_over_the_shards() -> None:
    samples, shards, strata = 100_000, 1_000, 20
    shard = (np.arange(samples) // (samples // shards)).astype(np.int32)
    sweep = ImageOrder(shard, 0)
    stratum = np.random.default_rng(0).integers(0, strata, samples)
    drawn = np.empty(samples, np.int32)
    for code, places in interleave(np.bincount(stratum), np.arange(samples, dtype=np.int32)):
        members = np.flatnonzero(stratum == code).astype(np.int32)
        drawn[places] = sweep.choose(members, len(places), cell=(0, code), earlier=0, draws=samples)
    shuffled = np.random.default_rng(1).permutation(samples)
    assert sorted(drawn.tolist()) == list(range(samples))
    assert window_shards(shard, shuffled, 1_000) > 500
    assert window_shards(shard, drawn, 1_000) < 75


def test_neighbours_in_a_shard_are_not_drawn_consecutively() -> None:
    sweep = ImageOrder(np.arange(20_000, dtype=np.int32) // 100, 3)
    drawn = sweep.choose(np.arange(20_000, dtype=np.int32), 20_000, cell=(0, 0), earlier=0, draws=20_000)
    assert np.mean(np.diff(drawn) == 1) < 0.005


@pytest.mark.parametrize("other", [(1, 0), (0, 1)])
def test_strata_have_orders_of_their_own(other: tuple[int, int]) -> None:
    sweep, members = ImageOrder(np.zeros(1_000, np.int32), 0), np.arange(1_000, dtype=np.int32)
    first, second = (set(sweep.choose(members, 300, cell=c, earlier=0, draws=1_000).tolist()) for c in ((0, 0), other))
    assert len(first & second) == pytest.approx(90, abs=40)  # what chance gives, within 7 standard errors
