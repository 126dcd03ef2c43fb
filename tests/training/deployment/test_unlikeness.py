"""Ranks of images by their distance to the training images."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.deployment import unlikeness
from training.deployment.unlikeness import Unlikeness

SEEDS = st.integers(0, 999)


def clouds(seed: int, images: int = 120, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Features around four centres, and groups of twelve images of one centre."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(4, width)) * 3
    groups = np.arange(images) // 12
    drives = generator.normal(size=(images // 12, width))
    features = centres[groups % 4] + drives[groups] + 0.05 * generator.normal(size=(images, width))
    return features.astype(np.float32), groups


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(unlikeness).failed == 0


@settings(max_examples=20)
@given(seed=SEEDS)
def test_distances_are_those_of_the_definition(seed: int) -> None:
    """One group: one fit, of all images."""
    features, _ = clouds(seed)
    distances, ranks = Unlikeness(features, np.zeros(len(features), np.int64)).of(features[:7])
    centred = (features - features.mean(axis=0)).astype(np.float64)
    covariance = np.mean([np.outer(row, row) for row in centred], axis=0)
    target = np.trace(covariance) / 6 * np.eye(6)
    spread = np.sum((covariance - target) ** 2)
    noise = np.mean([np.sum((np.outer(row, row) - covariance) ** 2) for row in centred]) / len(centred)
    shrunk = covariance + min(1, noise / spread) * (target - covariance)
    expected = [np.sqrt(row @ np.linalg.solve(shrunk, row) / 6) for row in centred[:7]]
    assert distances == pytest.approx(expected, rel=1e-4)
    assert np.isnan(ranks).all()


@settings(max_examples=20)
@given(seed=SEEDS, scale=st.floats(0.1, 10))
def test_scale_does_not_matter(seed: int, scale: float) -> None:
    features, groups = clouds(seed)
    new = clouds(seed + 1)[0][:7]
    one, other = (Unlikeness(features * np.float32(each), groups).of(new * np.float32(each)) for each in (1, scale))
    assert other[0] == pytest.approx(one[0], rel=1e-3)
    assert other[1] == pytest.approx(one[1], abs=0.02)
    assert ((one[1] >= 0) & (one[1] <= 1)).all()


def test_new_groups_have_even_ranks() -> None:
    """Of groups that nobody trained on at most about 5% are above 0.95; within groups, far more seem to be."""
    features, groups = clouds(3, images=1200, width=60)
    held = groups % 3 == 0
    _, ranks = Unlikeness(features[~held], groups[~held]).of(features[held])
    assert np.mean(ranks > 0.95) <= 0.1
    assert np.mean(ranks) == pytest.approx(0.5, abs=0.12)
    careless = Unlikeness(features[~held], np.arange(np.sum(~held)))
    assert np.mean(careless.of(features[held])[1] > 0.95) > 0.5


def test_what_is_far_away_has_rank_1() -> None:
    features, groups = clouds(0)
    assert Unlikeness(features, groups).of(50 * features[:1])[1].tolist() == [1.0]


def test_features_that_never_change_do_no_harm() -> None:
    features, groups = clouds(0)
    features[:, 2] = 1.0
    distances, ranks = Unlikeness(features, groups).of(features[:5])
    assert np.isfinite(distances).all()
    assert np.isfinite(ranks).all()
    flat = Unlikeness(np.ones((30, 4), np.float32), np.arange(30)).of(np.ones((2, 4), np.float32))
    assert np.isfinite(flat[0]).all()
