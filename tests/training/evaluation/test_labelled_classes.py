"""Figures of several classes equal scikit-learn's with classes that nobody looked for, and so do their intervals."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from curation import Task
from training.evaluation.class_rates import class_shift, shifted
from training.evaluation.intervals import Figure
from training.evaluation.labelled_classes import LabelledClasses, class_lists_table, thresholds
from training.evaluation.macro import mean_average_precision, precision_influence
from training.evaluation.metrics import RankingSums
from training.evaluation.predictions import Samples
from training.judging.class_measures import ClassMeasure
from training.judging.measures import Measure
from training.judging.paired_runs import PairedClasses

CASES = settings(deadline=None, max_examples=40)
SEEDS = st.integers(0, 2**32 - 1)
SEEN = Task(name="seen", kind="multilabel", classes=("a", "b", "c", "d"), owner="ada")


def samples_of(n: int, groups: np.ndarray) -> Samples:
    return Samples(
        ids=np.arange(n), keys=pa.array([f"{row:04d}" for row in range(n)]), splits=np.full(n, "test", object),
        groups=groups, weights=np.ones(n),
    )  # fmt: skip


def drawn(seed: int, n: int = 60, runs: int = 1) -> list[LabelledClasses]:
    """Runs over the same n images, of which 30% of the statements are unknown; probabilities have ties."""
    generator = np.random.default_rng(seed)
    truth = (generator.random((n, 4)) < [0.5, 0.3, 0.1, 0.02]).astype(np.int8)
    unseen = generator.random(truth.shape) < 0.3
    weights, samples = 1 / generator.uniform(0.2, 1, n), samples_of(n, generator.integers(0, 12, n))
    made = []
    for _ in range(runs):
        chances = np.round(np.clip(0.35 * truth + 0.7 * generator.random(truth.shape), 0, 1), 1)
        made.append(
            LabelledClasses(
                rows=np.arange(n), truth=np.where(unseen, -1, truth).astype(np.int8), probabilities=chances,
                predicted=chances >= 0.5, weights=weights, samples=samples,
            )
        )  # fmt: skip
    return made


def theirs(part: LabelledClasses) -> dict[str, float | None]:
    """The figures by scikit-learn, class by class over what is known."""
    aps, f1s, flat = [], [], []
    for code in range(4):
        known = part.truth[:, code] >= 0
        truth, weights = part.truth[known, code], part.weights[known]
        flat.append((truth, part.predicted[known, code], weights))
        if truth.any() and not truth.all():
            aps.append(reference.average_precision_score(truth, part.probabilities[known, code], sample_weight=weights))
        if truth.any():
            f1s.append(reference.f1_score(truth, part.predicted[known, code], sample_weight=weights, zero_division=0))
    every = [np.concatenate(parts) for parts in zip(*flat, strict=True)]
    micro = reference.f1_score(every[0], every[1], sample_weight=every[2], zero_division=0)
    return {
        "map": float(np.mean(aps)) if aps else None, "macro_f1": float(np.mean(f1s)) if f1s else None,
        "micro_f1": float(micro) if f1s else None,
    }  # fmt: skip


@CASES
@given(SEEDS)
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    (part,) = drawn(seed)
    wanted = theirs(part)
    for name, figure in part.figures().items():
        assert figure.value == (None if wanted[name] is None else pytest.approx(wanted[name]))
        assert (figure.n, figure.groups) == (60, len(np.unique(part.groups)))
        assert figure.value is None or figure.low <= figure.value <= figure.high


@CASES
@given(SEEDS)
def test_sums_of_parts_merge(seed: int) -> None:
    (part,) = drawn(seed)
    half = np.arange(60) < 25
    for code in range(4):
        whole, parts = part.confusion(code), [part.at(mask).confusion(code) for mask in (half, ~half)]
        both = (parts[0] + parts[1]).f1(1)
        for name, value in vars(whole.f1(1)).items():
            assert getattr(both, name) == (None if value is None else pytest.approx(value))
    codes = np.flatnonzero(part.known[:, 0])
    truth, chance = part.truth[codes, 0] == 1, part.probabilities[codes, 0]
    cut = half[codes]
    sums = [RankingSums.of(truth[m], chance[m], part.weights[codes][m]) for m in (cut, ~cut)]
    whole_ap = RankingSums.of(truth, chance, part.weights[codes]).average_precision()
    assert (sums[0] + sums[1]).average_precision() == (None if whole_ap is None else pytest.approx(whole_ap))


@CASES
@given(SEEDS)
def test_the_influence_is_the_derivative(seed: int) -> None:
    """Of the average precision by the weight of each label, times that weight."""
    generator = np.random.default_rng(seed)
    positive, scores = generator.random(20) < 0.4, np.round(generator.random(20), 1)
    positive[0] = True
    weights = generator.uniform(0.5, 2, 20)
    found = precision_influence(positive, scores, weights)
    assert found.sum() == pytest.approx(0, abs=1e-9)
    for row in range(20):
        moved = weights.copy()
        moved[row] *= 1 + 1e-6
        gains = [RankingSums.of(positive, scores, each).average_precision() for each in (moved, weights)]
        assert gains[0] is not None
        assert gains[1] is not None
        assert (gains[0] - gains[1]) / 1e-6 == pytest.approx(found[row], abs=1e-4)


def test_intervals_hold_the_figure_of_all_images_nineteen_times_in_twenty() -> None:
    population, held = drawn(1, n=20_000)[0], 0

    def figure(rows: np.ndarray) -> Figure:
        part = population.taken(rows)
        known, there = part.known[:, :3], part.truth[:, :3] == 1
        return mean_average_precision(known, there, part.probabilities[:, :3], np.ones(len(rows)), np.arange(len(rows)))

    wanted, generator = figure(np.arange(20_000)).value, np.random.default_rng(0)
    for _ in range(200):
        found = figure(generator.choice(20_000, 150, replace=False))
        held += found.low <= wanted <= found.high  # type: ignore[operator]
    assert 0.9 <= held / 200 <= 0.99


@pytest.mark.parametrize("text", ["map", "macro_f1", "micro_f1", "ap:a", "f1:b", "recall:b", "precision:a"])
def test_measures_of_exchanged_groups_are_those_of_exchanged_predictions(text: str) -> None:
    measure = ClassMeasure.of(SEEN, text)
    for seed in range(5):
        first, second = drawn(seed, runs=2)
        pair = PairedClasses(task=SEEN, first=first, second=second)
        sums = measure.sums(pair)
        assert sums is not None
        names = first.figures()
        if text in names:
            assert sums.values() == pytest.approx((names[text].value, second.figures()[text].value))
        swapped = np.isin(first.groups, [1, 4, 7])
        mixed = LabelledClasses(**{
            **vars(first), "probabilities": np.where(swapped[:, None], second.probabilities, first.probabilities),
            "predicted": np.where(swapped[:, None], second.predicted, first.predicted),
        })  # fmt: skip
        wanted = measure.sums(PairedClasses(task=SEEN, first=mixed, second=second))
        assert wanted is not None
        own = np.isin(sums.groups, [1, 4, 7])[:, None]
        by_sums = np.where(own, sums.second.toarray(), sums.first.toarray()).sum(axis=0)
        assert float(sums.value(by_sums[None])[0]) == pytest.approx(wanted.values()[0])
        bound = measure.bound(pair, z=1.645)
        assert bound.low <= bound.high


def test_a_class_is_measured_as_the_binary_task_that_it_is() -> None:
    (part,) = drawn(3)
    own = part.of_class(1)
    assert len(own.rows) == int(part.known[:, 1].sum())
    pair = PairedClasses(task=SEEN, first=part, second=part)
    assert ClassMeasure.of(SEEN, "f1:b").undefined(pair) == ""
    assert Measure.of(Task(name="b", kind="binary", owner="ada"), "f1:true").code == 1


def test_a_shift_of_odds_and_thresholds() -> None:
    shift = class_shift(np.array([0.5, 0.5, np.nan]), np.array([0.1, np.nan, 0.3]))
    assert shift.tolist() == [pytest.approx(np.log(1 / 9)), 0.0, 0.0]
    natural = shifted(np.array([[0.5, 0.7, 1.0]]), shift)
    assert natural.tolist() == [[pytest.approx(0.1), 0.7, 1.0]]
    task = SEEN.model_copy(update={"decide": (("d", 0.2),)})
    assert thresholds(task).tolist() == [0.5, 0.5, 0.5, 0.2]
    rows = class_lists_table(task, pa.array(["x", "y"]), np.array([[0.6, 0.1, 0.5, 0.3], [0.1, 0.1, 0.1, 0.1]]))
    assert rows["codes"].to_pylist() == [[0, 2, 3], []]
    assert rows["confidence"].to_pylist() == [0.5, 0.9]
