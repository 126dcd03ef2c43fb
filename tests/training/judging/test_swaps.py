"""The joint group-swap test: mixed sums are those of mixed predictions, p values are exact, and count all slices."""

from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.catalog.tasks import Task
from training.evaluation.metrics import RankingSums
from training.evaluation.predictions import LabelledPredictions, Samples
from training.judging.group_sums import PairedSums
from training.judging.measures import Measure
from training.judging.paired_runs import PairedPredictions
from training.judging.swaps import Swaps, false_discovery_rates

COLOR = Task(name="color", kind="categorical", classes=("red", "yellow", "green"), owner="ada")
SPEED = Task(name="speed", kind="regression", unit="km/h", metric="mae", owner="ada")
MEASURES = [
    *(Measure.of(COLOR, name) for name in ("accuracy", "balanced_accuracy", "macro_f1", "map", "f1:yellow")),
    *(Measure.of(COLOR, name) for name in ("recall:yellow", "precision:red", "ap:green")), Measure.of(SPEED),
]  # fmt: skip


def samples_of(groups: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> Samples:
    n = len(groups)
    keys = pa.array([f"k{number:04}" for number in range(n)])
    return Samples(
        ids=np.arange(n), keys=keys, splits=np.full(n, "test", object), groups=groups, weights=weights
    )  # fmt: skip


def run_of(
    task: Task, truth: npt.NDArray[np.float64], samples: Samples, generator: np.random.Generator
) -> LabelledPredictions:
    n = len(truth)
    if task.kind == "regression":
        nothing = np.full(n, np.nan)
        number = truth + generator.normal(size=n)
        return LabelledPredictions.of(
            samples,
            rows=np.arange(n),
            truth=truth,
            predicted=number,
            confidence=nothing,
            probabilities=np.empty((n, 0)),
        )
    chances = generator.dirichlet([1, 1, 1], n)
    code = chances.argmax(axis=1)
    return LabelledPredictions.of(
        samples, rows=np.arange(n), truth=truth, predicted=code.astype(np.float64), confidence=chances.max(axis=1),
        probabilities=chances,
    )  # fmt: skip


def pair_of(task: Task, n: int, seed: int, groups: int = 6) -> PairedPredictions:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3, n).astype(np.float64)
    truth[:3] = [0, 1, 2]
    samples = samples_of(np.sort(generator.integers(0, groups, n)), generator.uniform(1, 3, n))
    first, second = (run_of(task, truth, samples, generator) for _ in range(2))
    return PairedPredictions(task=task, first=first, second=second)


def mixed(pair: PairedPredictions, chosen: npt.NDArray[np.bool_]) -> LabelledPredictions:
    """The first run's predictions, and the second's where `chosen`."""
    parts = {}
    for name in ("predicted", "confidence", "probabilities"):
        value = getattr(pair.first, name)
        mask = chosen if value.ndim == 1 else chosen[:, None]
        parts[name] = np.where(mask, getattr(pair.second, name), value)
    return replace(pair.first, **parts)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.text)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_sums_of_exchanged_groups_are_those_of_exchanged_predictions(measure: Measure, seed: int) -> None:
    pair = pair_of(measure.task, 40, seed)
    sums = measure.sums(pair)
    assert sums is not None
    exchanged = np.random.default_rng(seed).integers(0, 2, 6)
    chosen = exchanged[pair.first.groups] == 1
    both = PairedPredictions(task=pair.task, first=mixed(pair, chosen), second=mixed(pair, ~chosen))
    again = measure.sums(both)
    assert again is not None
    total = sums.first + (sums.second - sums.first) * exchanged[sums.groups][:, None]
    assert sums.value(np.asarray(total.sum(axis=0))[None, :])[0] == pytest.approx(again.values()[0])


def test_average_precision_by_groups_is_the_metric() -> None:
    pair = pair_of(COLOR, 200, 3)
    found = Measure.of(COLOR, "ap:red").sums(pair)
    assert found is not None
    expected = RankingSums.of(pair.first.truth == 0, pair.first.probabilities[:, 0], pair.first.weights)
    total = np.asarray(found.first.sum(axis=0))[None, :]
    assert found.value(total)[0] == pytest.approx(expected.average_precision())


def test_all_exchanges_of_few_groups_are_tried() -> None:
    pair = pair_of(COLOR, 40, 1)
    measure = Measure.of(COLOR)
    sums = measure.sums(pair)
    assert sums is not None
    gains = []
    for bits in product([False, True], repeat=6):
        chosen = np.array(bits)[pair.first.groups]
        both = PairedPredictions(task=COLOR, first=mixed(pair, chosen), second=mixed(pair, ~chosen))
        again = measure.sums(both)
        assert again is not None
        gains.append(again.values()[1] - again.values()[0])
    expected = np.mean(np.array(gains) <= gains[0] + 1e-12)
    assert Swaps.of([sums]).each("drop")[0] == pytest.approx(expected)


def two_runs(generator: np.random.Generator, groups: int) -> list[PairedSums]:
    """Overlapping slices of two exchangeable runs, whose images of one group fail together."""
    n = groups * 4
    group = np.repeat(np.arange(groups), 4)
    samples = samples_of(group, np.ones(n))
    truth = np.zeros(n)
    wrong = [np.repeat(generator.random(groups) < 0.2, 4) for _ in range(2)]
    first, second = (
        LabelledPredictions.of(
            samples, rows=np.arange(n), truth=truth, predicted=part.astype(np.float64), confidence=np.ones(n),
            probabilities=np.ones((n, 3)),
        )
        for part in wrong
    )  # fmt: skip
    pair = PairedPredictions(task=COLOR, first=first, second=second)
    parts = [Measure.of(COLOR).sums(pair.at(np.repeat(generator.random(groups) < 0.3, 4))) for _ in range(8)]
    return [part for part in parts if part is not None]


def test_a_false_difference_is_as_rare_as_it_says() -> None:
    generator = np.random.default_rng(5)
    tests = [Swaps.of(two_runs(generator, 80), swaps=300) for _ in range(200)]
    assert np.mean([test.step_down("drop").min() <= 0.05 for test in tests]) <= 0.09
    assert np.mean([test.each("drop").min() <= 0.05 for test in tests]) > 0.1


def test_adjusted_p_values_are_larger_and_keep_their_order() -> None:
    test = Swaps.of(two_runs(np.random.default_rng(2), 60))
    for tail in ("drop", "both"):
        alone, adjusted = test.each(tail), test.step_down(tail)
        assert (adjusted >= alone - 1e-12).all()
        assert (np.diff(adjusted[np.argsort(alone, kind="stable")]) >= -0.05).all()
    one = Swaps.of(two_runs(np.random.default_rng(2), 60)[:1])
    assert one.step_down("both") == pytest.approx(one.each("both"))


def test_runs_that_predict_alike_do_not_differ() -> None:
    pair = pair_of(COLOR, 60, 4)
    sums = Measure.of(COLOR, "map").sums(PairedPredictions(task=COLOR, first=pair.first, second=pair.first))
    assert sums is not None
    assert Swaps.of([sums, sums]).step_down("both").tolist() == [1.0, 1.0]
    assert Swaps.of([]).step_down("both").tolist() == []


def test_small_p_values_are_refined() -> None:
    generator = np.random.default_rng(0)
    n = 200
    samples = samples_of(np.arange(n), np.ones(n))
    truth = np.zeros(n)
    nothing = np.full(n, np.nan)
    first, second = (
        LabelledPredictions.of(
            samples, rows=np.arange(n), truth=truth, predicted=size * generator.random(n), confidence=nothing,
            probabilities=np.empty((n, 0)),
        )
        for size in (1, 2)
    )  # fmt: skip
    sums = Measure.of(SPEED).sums(PairedPredictions(task=SPEED, first=first, second=second))
    assert sums is not None
    p, q = false_discovery_rates([sums, sums], "both")
    assert p.max() < 1 / 100_000
    assert q.tolist() == p.tolist()
    assert false_discovery_rates([], "both")[0].tolist() == []
