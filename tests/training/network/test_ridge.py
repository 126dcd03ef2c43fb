"""Folds and ridges: groups stay whole, classes spread, and the path finds the ridge that generalises."""

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.network import folds, ridge
from training.network.exact import rotate
from training.network.folds import folds_of, strata_of
from training.network.ridge import PATH, chosen, ridge_path


@pytest.mark.parametrize("module", [folds, ridge])
def test_examples(module: object) -> None:
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), labels=st.integers(1, 60), classes=st.integers(1, 6), bursts=st.integers(1, 30))
def test_groups_stay_whole_and_order_plays_no_part(seed: int, labels: int, classes: int, bursts: int) -> None:
    generator = np.random.default_rng(seed)
    groups, strata = generator.integers(0, bursts, labels), generator.integers(0, classes, labels)
    found = folds_of(groups, strata, seed=seed)
    assert found.max() + 1 <= min(5, len(np.unique(groups)))
    assert all(len(np.unique(found[groups == group])) == 1 for group in groups)
    order = generator.permutation(labels)
    assert folds_of(groups[order], strata[order], seed=seed).tolist() == found[order].tolist()


def test_a_rare_class_is_spread_over_the_folds() -> None:
    strata = np.array([0] * 95 + [1] * 5)
    found = folds_of(np.arange(100), strata)
    assert sorted(found[strata == 1].tolist()) == [0, 1, 2, 3, 4]
    assert np.bincount(found).tolist() == [20] * 5


def test_numbers_are_spread_by_fifths() -> None:
    assert np.bincount(strata_of(np.arange(100.0), numeric=True)).tolist() == [20] * 5


def learnable(noise: float, labels: int = 120, width: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(labels, width))
    logits = features[:, 0] * 2 + generator.normal(size=labels) * noise
    return torch.from_numpy(features), torch.from_numpy((logits > 0).astype(np.int64))


def path(noise: float, near: float | None = None) -> list[ridge.RidgePoint]:
    features, targets = learnable(noise)
    weights = torch.full((len(targets),), 1 / len(targets), dtype=torch.float64)
    found = folds_of(np.arange(len(targets)), targets.numpy())
    return ridge_path(
        "binary", 1, rotate(features, weights), targets, weights, found, np.arange(len(targets)), near=near
    )


def test_more_noise_asks_for_a_larger_ridge() -> None:
    assert chosen(path(0.1)).ridge < chosen(path(8.0)).ridge


def test_the_path_ends_once_the_loss_has_risen() -> None:
    assert len(path(8.0)) < len(PATH)


@pytest.mark.parametrize("noise", [0.1, 2.0, 8.0])
@pytest.mark.parametrize("near", [PATH[0], PATH[4], PATH[-1]])
def test_a_warm_path_finds_the_ridge_of_a_cold_one_with_fewer_points(noise: float, near: float) -> None:
    cold, warm = path(noise), path(noise, near)
    assert chosen(warm).ridge == chosen(cold).ridge
    assert len(path(noise, chosen(cold).ridge)) <= 3


def point(ridge_: float, loss: float) -> ridge.RidgePoint:
    return ridge.RidgePoint(ridge=ridge_, loss=loss, error=0.1)


def test_of_losses_that_hardly_differ_the_largest_ridge_is_chosen() -> None:
    assert chosen([point(0.1, 0.6), point(0.01, 0.5024), point(0.001, 0.5)]).ridge == 0.01
    assert chosen([point(0.1, 0.6), point(0.01, 0.5026), point(0.001, 0.5)]).ridge == 0.001


def test_a_temperature_undoes_overconfidence_and_is_one_of_the_rounded_ones() -> None:
    """Labels follow logits z: outputs of 3 z are divided by about 3."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=4_000) * 2
    labels = generator.random(4_000) < 1 / (1 + np.exp(-logits))

    def loss(divisor: float) -> float:
        return float(np.logaddexp(0, np.where(labels, -3, 3) * logits / divisor).mean())

    found = ridge._temperature(loss)
    assert found == pytest.approx(3, rel=0.15)
    assert 20 * np.log10(found) == pytest.approx(round(20 * np.log10(found)))
    assert ridge._temperature(lambda divisor: divisor) == pytest.approx(0.5, rel=0.05)


def test_numbers_have_no_temperature() -> None:
    features, targets = learnable(1.0)
    weights = torch.full((len(targets),), 1 / len(targets), dtype=torch.float64)
    groups = np.arange(len(targets))
    found = ridge_path("regression", 1, rotate(features, weights), targets, weights, folds_of(groups, groups), groups)
    assert {each.temperature for each in found} == {1.0}
