"""Labels to a target: planted curves are covered, floors are not promised, and bad targets are refused."""

import math

import numpy as np
import pytest

from curation.errors import BadInput
from training.evaluation.intervals import proportion
from training.judging.forecast import CurvePoint, check_target, forecast, is_share, learning_curves

SIZES = (50, 71, 100, 141, 200, 283, 400)
EFFECTIVE = 400


def curve(*, floor: float, exponent: float, start: float = 0.4, scale: int = 1, seed: int = 0) -> list[CurvePoint]:
    """Points of floor + b n^-exponent, whose error at the smallest size is `start`, judged by 400 labels."""
    generator, points = np.random.default_rng(seed), []
    for size in SIZES:
        error = floor + (start - floor) * (size / SIZES[0]) ** -exponent
        right = (generator.random(EFFECTIVE) >= error).astype(np.float64)
        point = CurvePoint.of(scale * size, proportion(right, np.ones(EFFECTIVE), np.arange(EFFECTIVE)))
        assert point
        points.append(point)
    return points


def truth(target: float, *, floor: float, exponent: float, start: float = 0.4) -> float:
    return SIZES[0] * ((start - floor) / (1 - target - floor)) ** (1 / exponent)


@pytest.mark.parametrize("exponent", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_the_interval_holds_what_was_planted(floor: float, exponent: float) -> None:
    covered = 0
    for seed in range(10):
        found = forecast(curve(floor=floor, exponent=exponent, seed=seed), 0.88, share=True)
        wanted = truth(0.88, floor=floor, exponent=exponent)
        covered += (found.least or math.inf) <= wanted <= (found.most or math.inf)
    assert covered >= 8


def test_a_target_below_the_floor_is_never_promised() -> None:
    for seed in range(10):
        found = forecast(curve(floor=0.3, exponent=1.2, seed=seed), 0.95, share=True)
        assert found.most is None
        assert found.verdict in ("at least", "not in reach")


def test_a_flat_curve_is_not_in_reach() -> None:
    points = [CurvePoint(labels=size, value=0.7, low=0.69, high=0.71, n=8_000) for size in SIZES]
    assert forecast(points, 0.99, share=True).verdict == "not in reach"


def test_what_is_reached_is_said_to_be() -> None:
    points = curve(floor=0.0, exponent=0.5)
    assert forecast(points, points[-1].low - 0.01, share=True).verdict == "reached"
    assert forecast(points, points[-1].value, share=True).verdict == "perhaps reached"


def test_labels_are_counted_in_any_unit() -> None:
    one, ten = (forecast(curve(floor=0.02, exponent=0.5, scale=scale), 0.9, share=True) for scale in (1, 10))
    assert one.least
    assert ten.least == pytest.approx(10 * one.least, abs=10)


def test_numbers_are_forecast_in_any_unit() -> None:
    found = []
    for unit in (1.0, 1e-5, 1e5):
        errors = [unit * (2 + 8 * (size / SIZES[0]) ** -0.5) for size in SIZES]
        rows = zip(SIZES, errors, strict=True)
        points = [CurvePoint(labels=size, value=e, low=0.95 * e, high=1.05 * e, n=300) for size, e in rows]
        found.append(forecast(points, 4.0 * unit, share=False))
    assert found[0].least == found[1].least == found[2].least
    assert found[0].least
    assert found[0].least <= SIZES[0] * 16 <= (found[0].most or math.inf)


def test_two_numbers_of_labels_are_no_curve() -> None:
    points = curve(floor=0.0, exponent=0.5)[:2]
    with pytest.raises(BadInput, match="has 2 points"):
        learning_curves([*points, points[0]], share=True)


@pytest.mark.parametrize(
    ("target", "share", "fix"),
    [(95.0, True, "write 0.95"), (1.5, True, "write 0.015"), (0.0, True, "can have"), (-0.1, True, "can have"),
     (math.nan, True, "can have"), (0.0, False, "can have"), (-3.0, False, "can have"), (math.inf, False, "can have"),
     (math.nan, False, "can have"), (101.0, True, "can have")],
)  # fmt: skip
def test_a_target_beyond_the_range_is_refused(target: float, share: bool, fix: str) -> None:
    with pytest.raises(BadInput, match="--target") as raised:
        check_target(target, "accuracy" if share else "mae", share=share)
    assert fix in str(raised.value)


@pytest.mark.parametrize("metric", ["mae", "shade:mae", "shade:mae_found"])
def test_mean_errors_are_no_shares(metric: str) -> None:
    assert not is_share(metric)
    assert is_share(metric.replace("mae", "accuracy"))
