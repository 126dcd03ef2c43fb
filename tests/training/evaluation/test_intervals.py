"""Figures and their intervals: of proportions, means and balanced errors, over groups."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.intervals import balanced, mean_of, proportion


def test_interval_of_independent_samples_is_wilsons() -> None:
    figure = proportion(np.r_[np.ones(18), np.zeros(2)], np.ones(20), np.arange(20))
    assert (figure.value, figure.n, figure.groups) == (0.9, 20, 20)
    assert (figure.low, figure.high) == pytest.approx((0.70, 0.97), abs=0.015)


def test_interval_of_all_right_is_not_a_point() -> None:
    figure = proportion(np.ones(9), np.ones(9), np.repeat([0, 1, 2], 3))
    assert figure.high == 1
    assert figure.low == pytest.approx(0.44, abs=0.02)  # Wilson of 3 of 3: three groups, not nine samples


def test_one_group_counts_as_one_sample() -> None:
    right, ones, group = np.r_[np.ones(7), np.zeros(3)], np.ones(10), np.zeros(10, np.int64)
    figure = proportion(right, ones / 3, group)
    assert figure.low is not None
    assert figure.high is not None
    assert figure.high - figure.low > 0.75
    mean = mean_of(right, ones, group)
    assert (mean.value, mean.low, mean.high) == (0.7, None, None)


@given(scale=st.floats(0.01, 100), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_figures_depend_neither_on_the_scale_of_weights_nor_on_order(scale: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    right, weights, groups = (
        generator.integers(0, 2, 30) * 1.0,
        generator.uniform(0.1, 1, 30),
        generator.integers(0, 8, 30),
    )
    order = generator.permutation(30)
    for figure_of in (proportion, mean_of):
        one, other = figure_of(right, weights, groups), figure_of(right[order], scale * weights[order], groups[order])
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), abs=1e-9)


def test_intervals_of_groups_cover_the_truth() -> None:
    generator = np.random.default_rng(0)
    hits = {"proportion": 0, "balanced": 0, "mean": 0}
    for _ in range(400):
        groups = np.repeat(np.arange(60), generator.integers(3, 8, 60))
        chance = generator.beta(4, 1, 60)[groups]
        right = (generator.random(len(groups)) < chance).astype(float)
        classes = groups % 2
        for name, figure in {
            "proportion": proportion(right, np.ones(len(right)), groups),
            "balanced": balanced(right, classes, np.ones(len(right)), groups),
            "mean": mean_of(right, np.ones(len(right)), groups),
        }.items():
            assert figure.low is not None
            assert figure.high is not None
            hits[name] += figure.low <= 0.8 <= figure.high
    assert all(0.91 <= count / 400 <= 0.985 for count in hits.values()), hits


def test_without_data_there_is_no_figure() -> None:
    nothing = np.empty(0)
    figures = proportion(nothing, nothing, nothing), mean_of(nothing, nothing, nothing)
    for figure in (*figures, balanced(nothing, nothing, nothing, nothing)):
        assert (figure.value, figure.low, figure.high, figure.n) == (None, None, None, 0)
