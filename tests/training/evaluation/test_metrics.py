"""Metrics from mergeable sums, held against plain references on random labels of which some are unknown."""

import doctest
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.catalog.tasks import Task
from training.evaluation import decisions, intervals, metrics
from training.evaluation.metrics import BINS, CalibrationSums, ConfusionSums, MeanSums, RankingSums, root

CLASSES = 3
CASES = settings(deadline=None, max_examples=40)


@dataclass(frozen=True)
class Labels:
    """Random labels of three classes, with ties among the scores; about a third of the labels is unknown."""

    truth: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.float64]
    chances: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    groups: npt.NDArray[np.int64]

    def rows(self, start: int = 0, stop: int | None = None) -> "Labels":
        return Labels(*(part[start:stop] for part in vars(self).values()))

    def known(self) -> list[tuple[int, int, npt.NDArray[np.float64], float]]:
        """(truth, predicted, probabilities, weight) of every known label, for references in plain Python."""
        columns = zip(self.truth, self.predicted, self.chances, self.weights, strict=True)
        return [(int(true), int(guess), chance, weight) for true, guess, chance, weight in columns if true == true]


@st.composite
def random_labels(draw: st.DrawFn) -> Labels:
    generator = np.random.default_rng(draw(st.integers(0, 9_999)))
    n = draw(st.integers(0, 60))
    chances = generator.integers(1, 6, (n, CLASSES)).astype(float)
    chances /= chances.sum(axis=1, keepdims=True)
    truth = generator.integers(0, CLASSES, n).astype(float)
    truth[generator.random(n) < 0.35] = np.nan
    weights = 1 / generator.uniform(0.1, 1, n)
    return Labels(truth, chances.argmax(axis=1).astype(float), chances, weights, generator.integers(0, 9, n))


def confusion(labels: Labels) -> ConfusionSums:
    return ConfusionSums.of(CLASSES, labels.truth, labels.predicted, labels.weights, labels.groups)


def ranking(labels: Labels) -> RankingSums:
    known = np.isfinite(labels.truth)
    return RankingSums.of((labels.truth == 1)[known], labels.chances[known, 1], labels.weights[known])


def calibration(labels: Labels) -> CalibrationSums:
    known = np.isfinite(labels.truth)
    rows = labels.weights[known], labels.groups[known]
    return CalibrationSums.of((labels.truth == 1)[known], labels.chances[known, 1], *rows)


def squares(labels: Labels) -> MeanSums:
    return MeanSums.of((labels.truth - labels.chances[:, 0]) ** 2, labels.weights, labels.groups)


def brier(labels: Labels) -> MeanSums:
    return MeanSums.brier(labels.truth, labels.chances, labels.weights, labels.groups)


FAMILY = [confusion, ranking, calibration, squares, brier]


@CASES
@given(labels=random_labels(), cut=st.integers(0, 60))
@pytest.mark.parametrize("sums_of", FAMILY)
def test_sums_of_two_parts_add_up(sums_of: Callable[[Labels], object], labels: Labels, cut: int) -> None:
    whole, merged = sums_of(labels), sums_of(labels.rows(0, cut)) + sums_of(labels.rows(cut))  # type: ignore[operator]
    for name, value in vars(whole).items():
        np.testing.assert_allclose(value, vars(merged)[name], rtol=1e-12)


@CASES
@given(labels=random_labels(), seed=st.integers(0, 99))
@pytest.mark.parametrize("sums_of", FAMILY)
def test_unknown_labels_change_nothing(sums_of: Callable[[Labels], object], labels: Labels, seed: int) -> None:
    """Neither what was predicted where the label is unknown, nor whether it was."""
    known = np.isfinite(labels.truth)
    other = np.random.default_rng(seed).integers(0, CLASSES, len(known)).astype(float)
    changed = Labels(labels.truth, np.where(known, labels.predicted, other), *list(vars(labels).values())[2:])
    removed = Labels(*(part[known] for part in vars(labels).values()))
    for name, value in vars(sums_of(labels)).items():
        np.testing.assert_array_equal(value, vars(sums_of(changed))[name])
        np.testing.assert_array_equal(value, vars(sums_of(removed))[name])


@CASES
@given(labels=random_labels(), code=st.integers(0, CLASSES - 1))
def test_shares_are_those_of_the_definition(labels: Labels, code: int) -> None:
    sums, rows = confusion(labels), labels.known()
    right = sum(weight for true, guess, _, weight in rows if true == guess == code)
    true_weight = sum(weight for true, _, _, weight in rows if true == code)
    predicted_weight = sum(weight for _, guess, _, weight in rows if guess == code)
    both = true_weight + predicted_weight
    for figure, above, below in (
        (sums.recall(code), right, true_weight),
        (sums.precision(code), right, predicted_weight),
        (sums.f1(code), 2 * right, both),
        (sums.accuracy(), sum(row[3] for row in rows if row[0] == row[1]), sum(row[3] for row in rows)),
    ):
        assert figure.value == (pytest.approx(above / below) if below else None)
        assert figure.value is None or figure.low <= figure.value <= figure.high
    assert sums.counts().sum() == len(rows)
    assert sums.matrix()[code].sum() == pytest.approx(true_weight)


@CASES
@given(labels=random_labels())
def test_shares_from_sums_are_those_from_rows(labels: Labels) -> None:
    """Value, interval, n and groups: accuracy, recall, precision and balanced accuracy."""
    known = np.isfinite(labels.truth)
    truth, predicted, _, weights, groups = (part[known] for part in vars(labels).values())
    right, sums = (truth == predicted).astype(float), confusion(labels)
    pairs = [
        (sums.accuracy(), intervals.proportion(right, weights, groups)),
        (sums.balanced_accuracy(), intervals.balanced(right, truth.astype(int), weights, groups)),
    ]
    for name, column in (("recall", truth), ("precision", predicted)):
        mine = column == 1
        pairs.append((getattr(sums, name)(1), intervals.proportion(right[mine], weights[mine], groups[mine])))
    for one, other in pairs:
        assert vars(one) == pytest.approx(vars(other), abs=1e-9)


@CASES
@given(labels=random_labels())
def test_average_precision_is_that_of_the_definition(labels: Labels) -> None:
    """At every threshold, count by hand: the sum of precision times the gain in recall."""
    rows = [(chance[1], true == 1, weight) for true, _, chance, weight in labels.known()]
    positive = sum(weight for _, hit, weight in rows if hit)
    expected, before = 0.0, 0.0
    for threshold in sorted({score for score, _, _ in rows}, reverse=True):
        above = [(hit, weight) for score, hit, weight in rows if score >= threshold]
        found = sum(weight for hit, weight in above if hit)
        recall = found / positive if positive else 0.0
        expected += (recall - before) * found / sum(weight for _, weight in above)
        before = recall
    found = ranking(labels).average_precision()
    assert found == (pytest.approx(expected) if positive else None)


@CASES
@given(labels=random_labels())
def test_the_best_threshold_has_the_highest_f1(labels: Labels) -> None:
    sums = ranking(labels)
    best = sums.best_f1()
    if best is None:
        assert not sums.positive.any()
        return
    rows = [(chance[1], true == 1, weight) for true, _, chance, weight in labels.known()]

    def f1(threshold: float) -> float:
        right = sum(weight for score, hit, weight in rows if hit and score >= threshold)
        missed = sum(weight for score, hit, weight in rows if hit and score < threshold)
        wrong = sum(weight for score, hit, weight in rows if not hit and score >= threshold)
        return 2 * right / (2 * right + wrong + missed)

    assert best[1] == pytest.approx(f1(best[0]))
    assert best[1] == pytest.approx(max(f1(score) for score, _, _ in rows))


@CASES
@given(labels=random_labels())
def test_calibration_is_that_of_the_definition(labels: Labels) -> None:
    rows = [(chance[1], true == 1, weight) for true, _, chance, weight in labels.known()]
    gaps = []
    for code in range(BINS):
        inside = [row for row in rows if min(BINS - 1, int(row[0] * BINS)) == code]
        gaps.append(abs(sum(weight * (hit - score) for score, hit, weight in inside)))
    total = sum(weight for _, _, weight in rows)
    assert calibration(labels).error() == (pytest.approx(sum(gaps) / total) if rows else None)
    assert sum(part.weight for part in calibration(labels).curve()) == pytest.approx(total)


@CASES
@given(labels=random_labels())
def test_means_are_those_of_the_definition(labels: Labels) -> None:
    rows = labels.known()
    total = sum(weight for *_, weight in rows)
    score = sum(
        weight * sum((chance[code] - (code == true)) ** 2 for code in range(CLASSES))
        for true, _, chance, weight in rows
    )
    square = sum(weight * (true - chance[0]) ** 2 for true, _, chance, weight in rows)
    assert brier(labels).mean().value == (pytest.approx(score / total) if rows else None)
    assert root(squares(labels).mean()).value == (pytest.approx((square / total) ** 0.5) if rows else None)


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    sums = ConfusionSums.of(3, np.array([0.0, 1.0]), np.array([0.0, 0.0]), np.ones(2), np.arange(2))
    assert (sums.precision(1).value, sums.recall(1).value, sums.f1(1).value) == (None, 0.0, 0.0)
    assert (sums.precision(2).value, sums.recall(2).value, sums.f1(2).value) == (None, None, None)


def test_a_threshold_predicts_as_many_as_requested() -> None:
    sums = RankingSums.of(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]), np.ones(3))
    assert [sums.threshold_at(count) for count in (0, 1, 2, 9)] == [np.inf, 0.9, 0.8, 0.7]


def test_intervals_of_precision_and_f1_cover_for_groups() -> None:
    """95% intervals, over images of groups that are right or wrong together."""
    generator = np.random.default_rng(1)
    hits = {"precision": 0, "f1": 0}
    for _ in range(300):
        groups = np.repeat(np.arange(80), generator.integers(2, 7, 80))
        truth = (generator.random(80) < 0.4)[groups].astype(float)
        predicted = np.where(generator.random(len(groups)) < generator.beta(6, 2, 80)[groups], truth, 1 - truth)
        sums = ConfusionSums.of(2, truth, predicted, np.ones(len(groups)), groups)
        for name, value in {"precision": 0.3 / 0.45, "f1": 0.6 / (0.6 + 0.1 + 0.15)}.items():
            figure = getattr(sums, name)(1)
            hits[name] += figure.low <= value <= figure.high
    assert all(0.91 <= count / 300 <= 0.985 for count in hits.values()), hits


@pytest.mark.parametrize("module", [metrics, intervals, decisions], ids=lambda module: module.__name__)
def test_examples_of_the_docstrings(module: object) -> None:
    done = doctest.testmod(module, extraglobs={"np": np, "Task": Task})  # type: ignore[arg-type]
    assert done.attempted
    assert done.failed == 0
