"""The mathematics of one task's draws, as properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.plan.rates import PI_UNITS, class_targets, quantise, regression_bins, stratum_targets, water_fill
from samplers.policy.policy import TaskPolicy

RULES = ["natural", "balanced", "power", "effective_number", "repeat_factor"]

counts = st.lists(st.integers(0, 10_000), min_size=1, max_size=12).filter(any).map(np.array)


def policy(**fields: object) -> TaskPolicy:
    return TaskPolicy.model_validate({"owner": "ada", "share": 1, "importance": 1, **fields})


@pytest.mark.parametrize("rule", RULES)
@given(n=counts)
def test_class_targets_are_a_distribution_over_labelled_classes(rule: str, n: np.ndarray) -> None:
    pi = class_targets(n, policy(rule=rule))
    assert pi.sum() == pytest.approx(1)
    assert ((pi > 0) == (n > 0)).all()


@pytest.mark.parametrize("rule", RULES)
@given(n=counts)
def test_no_rule_prefers_the_rarer_of_two_classes_in_total(rule: str, n: np.ndarray) -> None:
    pi = class_targets(n, policy(rule=rule))
    assert (np.diff(pi[np.argsort(n, kind="stable")]) >= -1e-12).all()


def test_class_targets_by_hand() -> None:
    n = np.array([900, 100])
    assert class_targets(n, policy(rule="natural")).tolist() == [0.9, 0.1]
    assert class_targets(n, policy(rule="balanced")).tolist() == [0.5, 0.5]
    assert class_targets(n, policy(rule="power", gamma=0.5)).tolist() == [0.75, 0.25]
    # f = (0.9, 0.1), threshold 0.4: max(1, sqrt(0.4 / 0.1)) = 2, so 0.9 : 0.2
    assert class_targets(n, policy(rule="repeat_factor", threshold=0.4)) == pytest.approx([0.9 / 1.1, 0.2 / 1.1])
    # (1 - b^n): 1 - 0.99^900 and 1 - 0.99^100, times n/n
    mass = np.array([900 / (1 - 0.99**900), 100 / (1 - 0.99**100)])
    assert class_targets(n, policy(rule="effective_number", beta=0.99)) == pytest.approx(mass / mass.sum())


@st.composite
def strata(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    classes = np.sort(np.array(draw(st.lists(st.integers(0, 4), min_size=1, max_size=12))))
    sizes = st.integers(1, 1000)
    n = np.array(draw(st.lists(sizes, min_size=len(classes), max_size=len(classes))))
    boosts = np.array(draw(st.lists(st.floats(0.1, 100), min_size=len(classes), max_size=len(classes))))
    return n, classes, boosts


@pytest.mark.parametrize("rule", RULES)
@given(parts=strata())
def test_boosts_move_mass_inside_a_class_only(rule: str, parts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    n, classes, boosts = parts
    boosted = np.bincount(classes, stratum_targets(n, classes, boosts, policy(rule=rule)))
    plain = np.bincount(classes, stratum_targets(n, classes, np.ones(len(n)), policy(rule=rule)))
    assert boosted == pytest.approx(plain)


@pytest.mark.parametrize("rule", RULES)
@given(parts=strata(), cap=st.floats(1, 20))
def test_cap_bounds_every_image(rule: str, parts: tuple[np.ndarray, np.ndarray, np.ndarray], cap: float) -> None:
    n, classes, boosts = parts
    pi = stratum_targets(n, classes, boosts, policy(rule=rule, cap=cap))
    assert pi.sum() == pytest.approx(1)
    assert (pi / n <= cap / n.sum() * (1 + 1e-9)).all()


@given(parts=strata())
def test_cap_that_does_not_bind_changes_nothing(parts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    n, classes, boosts = parts
    free = stratum_targets(n, classes, boosts, policy(rule="balanced"))
    loose = stratum_targets(n, classes, boosts, policy(rule="balanced", cap=float(n.sum() + 1)))
    assert loose == pytest.approx(free)


@given(
    targets=st.lists(st.floats(1e-3, 1), min_size=1, max_size=10).map(np.array),
    room=st.floats(1, 3),
    seed=st.integers(0, 99),
)
def test_water_fill_keeps_the_total_below_the_limits(targets: np.ndarray, room: float, seed: int) -> None:
    limits = np.random.default_rng(seed).dirichlet(np.ones(len(targets))) * targets.sum() * room
    filled = water_fill(targets, limits)
    assert filled.sum() == pytest.approx(targets.sum())
    assert (filled <= limits * (1 + 1e-9)).all()


@given(n=counts)
def test_quantised_rates_sum_exactly_and_stay_close(n: np.ndarray) -> None:
    whole = quantise(n.astype(float), PI_UNITS)
    assert whole.sum() == PI_UNITS
    assert np.abs(whole - n / n.sum() * PI_UNITS).max() <= 1 + 1e-3 * len(n)
    assert ((whole > 0) == (n > 0)).all()


def test_every_positive_rate_gets_at_least_one_unit() -> None:
    assert quantise(np.array([1e9, 1.0, 0.0]), 1000).tolist() == [999, 1, 0]
    assert quantise(np.array([1.0, *[1e-12] * 5]), 10).tolist() == [5, 1, 1, 1, 1, 1]


def test_stratum_targets_by_hand() -> None:
    n, classes, ones = np.array([60, 20, 20]), np.array([0, 0, 1]), np.ones(3)
    plain = policy(rule="natural")
    assert stratum_targets(n, classes, np.array([1.0, 3.0, 1.0]), plain) == pytest.approx([0.4, 0.4, 0.2])
    assert stratum_targets(n, classes, ones, policy(rule="balanced")) == pytest.approx([0.375, 0.125, 0.5])
    # mined labels of the second stratum weigh a half: class masses are 70 and 20
    mined = stratum_targets(n, classes, ones, plain, np.array([1.0, 0.5, 1.0]))
    assert mined == pytest.approx([6 / 9, 1 / 9, 2 / 9])
    # the cap of 2 / 100 an image bounds the last stratum at 0.4, and the rest goes to the other class
    capped = stratum_targets(n, classes, ones, policy(rule="balanced", cap=2.0))
    assert capped == pytest.approx([0.45, 0.15, 0.4])


@given(seed=st.integers(0, 999), size=st.integers(1, 3000))
def test_regression_bins_are_ordered_and_not_small(seed: int, size: int) -> None:
    values = np.random.default_rng(seed).gamma(2, 20, size)
    bins = regression_bins(values)
    sizes = np.bincount(bins)
    assert sizes.min() >= min(20, size)
    assert (np.diff(bins[np.argsort(values)]) >= 0).all()


def test_equal_targets_fall_into_one_bin() -> None:
    assert regression_bins(np.full(50, 30.0)).tolist() == [0] * 50
