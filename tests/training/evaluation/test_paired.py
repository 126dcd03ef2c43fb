"""Means over seeds and labels: their intervals cover seeds and groups, and differences are paired."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation import paired
from training.evaluation.intervals import balanced, mean_of
from training.evaluation.paired import SeedValues, estimate


def values_of(generator: np.random.Generator, seeds: int = 3, n: int = 40) -> SeedValues:
    return SeedValues(
        values=generator.integers(0, 2, (seeds, n)).astype(float), weights=generator.uniform(0.2, 1, n),
        groups=generator.integers(0, 12, n), strata=generator.integers(0, 3, n),
    )  # fmt: skip


@given(number=st.integers(0, 999))
def test_the_mean_of_a_seed_is_the_figure_of_its_run(number: int) -> None:
    part = values_of(np.random.default_rng(number))
    for seed, mean in zip(part.values, part.by_seed(), strict=True):
        figure = balanced(seed, part.strata, part.weights, part.groups)
        assert mean == pytest.approx(figure.value)


@given(number=st.integers(0, 999), factor=st.floats(0.1, 10))
def test_estimates_depend_neither_on_the_scale_of_weights_nor_on_order(number: int, factor: float) -> None:
    generator = np.random.default_rng(number)
    part = values_of(generator)
    order, turn = generator.permutation(40), generator.permutation(3)
    other = SeedValues(
        values=part.values[turn][:, order], weights=factor * part.weights[order], groups=part.groups[order],
        strata=part.strata[order],
    )  # fmt: skip
    assert vars(estimate([part])) == pytest.approx(vars(estimate([other])))


@given(number=st.integers(0, 999))
def test_a_task_beside_itself_changes_nothing(number: int) -> None:
    part = values_of(np.random.default_rng(number))
    assert vars(estimate([part, part])) == pytest.approx(vars(estimate([part])))
    same = estimate([part.minus(part)])
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_one_seed_has_the_interval_of_a_mean_over_groups() -> None:
    part = values_of(np.random.default_rng(0), seeds=1)
    whole = SeedValues(values=part.values, weights=part.weights, groups=part.groups, strata=np.zeros(40, np.int64))
    found, figure = estimate([whole]), mean_of(part.values[0], part.weights, part.groups)
    assert (found.value, found.low, found.high) == pytest.approx((figure.value, figure.low, figure.high))


def test_one_seed_and_one_group_give_no_interval() -> None:
    part = SeedValues(
        values=np.ones((1, 3)), weights=np.ones(3), groups=np.zeros(3, np.int64), strata=np.zeros(3, np.int64)
    )
    assert (estimate([part]).low, estimate([part]).high) == (None, None)


@pytest.mark.parametrize(("of_seeds", "of_groups"), [(0.0, 0.3), (0.1, 0.0), (0.1, 0.3)])
def test_intervals_cover_the_truth(of_seeds: float, of_groups: float) -> None:
    """Differences of +0.1 that vary with the seed, the group of images, and by themselves."""
    generator, covered = np.random.default_rng(1), 0
    groups = np.repeat(np.arange(40), 4)
    for _ in range(400):
        drawn = of_seeds * generator.normal(size=(5, 1)) + of_groups * generator.normal(size=40)[groups]
        part = SeedValues(
            values=0.1 + drawn + 0.2 * generator.normal(size=(5, 160)), weights=np.ones(160), groups=groups,
            strata=np.zeros(160, np.int64),
        )  # fmt: skip
        found = estimate([part])
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.1 <= found.high
    assert 0.92 <= covered / 400 <= 0.99


def test_the_examples_run() -> None:
    done = doctest.testmod(paired)
    assert (done.failed, done.attempted > 0) == (0, True)
