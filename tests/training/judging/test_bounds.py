"""Bounds of a drop: Wilson's where nothing is shared, wider for bursts, and never below what was not seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.intervals import proportion
from training.judging.bounds import ONE_SIDED, TWO_SIDED, Bound


def test_losses_alone_have_wilsons_interval() -> None:
    worse = np.repeat([1.0, 0.0], [20, 180])
    bound = Bound.of_losses(worse, np.ones(200), np.arange(200), z=TWO_SIDED)
    expected = proportion(worse, np.ones(200), np.arange(200))
    assert bound.drop == pytest.approx(0.1)
    unseen = TWO_SIDED**2 / (200 + TWO_SIDED**2)  # of gains: none was seen
    assert bound.high == pytest.approx(expected.high, abs=2e-3)
    assert bound.below(1) == pytest.approx(((0.1 - expected.low) ** 2 + unseen**2) ** 0.5, abs=2e-3)


def test_what_was_never_seen_may_still_happen_as_often_as_one_in_so_many_groups() -> None:
    groups = np.repeat(np.arange(80), 5)
    bound = Bound.of_losses(np.zeros(400), np.ones(400), groups, z=ONE_SIDED)
    assert bound.high == pytest.approx(ONE_SIDED**2 / (80 + ONE_SIDED**2))
    costly = Bound.of_losses(np.zeros(400), np.ones(400), groups, z=ONE_SIDED, scale=30.0, rarest=20.0)
    assert costly.high == pytest.approx(20 * ONE_SIDED**2 / (80 + ONE_SIDED**2))


def test_images_of_one_group_count_less() -> None:
    worse = np.tile([1.0, 0, 0, 0], 100)
    alone = Bound.of_losses(worse, np.ones(400), np.arange(400), z=ONE_SIDED)
    together = Bound.of_losses(np.sort(worse), np.ones(400), np.repeat(np.arange(100), 4), z=ONE_SIDED)
    assert together.above(1) > 1.7 * alone.above(1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.1, 10))
def test_neither_the_unit_of_weights_nor_of_values_matters(seed: int, factor: float) -> None:
    generator = np.random.default_rng(seed)
    worse, weights = generator.normal(size=60), generator.uniform(1, 2, 60)
    groups = generator.integers(0, 20, 60)
    one = Bound.of_losses(worse, weights, groups, z=ONE_SIDED, scale=9.0)
    other = Bound.of_losses(worse * factor, weights * factor, groups, z=ONE_SIDED, scale=9.0 * factor)
    assert (other.low / factor, other.high / factor) == pytest.approx((one.low, one.high))
    turned = Bound.of_losses(-worse, weights, groups, z=ONE_SIDED, scale=9.0)
    assert (-turned.high, -turned.low) == pytest.approx((one.low, one.high))


def test_parts_that_fall_together_add_up() -> None:
    generator = np.random.default_rng(1)
    groups = np.arange(100)
    worse = (generator.random(100) < 0.1).astype(np.float64)
    one = Bound.of_losses(worse, np.ones(100), groups, z=ONE_SIDED)
    apart = Bound.of_losses(np.roll(worse, 1), np.ones(100), groups + 100, z=ONE_SIDED)
    assert Bound.of_parts([one, one], [0.5, 0.5]).above(1) == pytest.approx(one.above(1))
    assert Bound.of_parts([one, apart], [0.5, 0.5]).above(1) == pytest.approx(one.above(1) / 2**0.5)
    assert Bound.of_parts([one], [1.0]).high == pytest.approx(one.high)


def test_the_groups_that_would_do_do() -> None:
    generator = np.random.default_rng(3)

    def bound(groups: int) -> Bound:
        worse = generator.choice([-1.0, 0.0, 1.0], p=[0.03, 0.94, 0.03], size=groups)
        return Bound.of_losses(np.repeat(worse, 3), np.ones(3 * groups), np.repeat(np.arange(groups), 3), z=ONE_SIDED)

    few = bound(60)
    assert few.high > 0.03
    needed = few.groups_for(0.03)
    assert 150 < needed < 1500
    passed = np.mean([bound(needed).high < 0.03 for _ in range(100)])
    assert passed >= 0.6
    identical = Bound.of_losses(np.zeros(40), np.ones(40), np.arange(40), z=ONE_SIDED)
    assert identical.groups_for(0.03) == pytest.approx(ONE_SIDED**2 * 0.97 / 0.03, abs=2)
