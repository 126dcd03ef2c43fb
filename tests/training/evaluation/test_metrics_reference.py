"""Metrics from mergeable sums equal scikit-learn's on random labels, of which some are unknown and all are weighted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from training.evaluation.metrics import ConfusionSums, MeanSums, RankingSums, root

CASES = settings(deadline=None, max_examples=40)
SEEDS = st.integers(0, 2**32 - 1)


class Drawn:
    """n labels of C classes: true and predicted codes (NaN: unknown), probabilities with ties, inverse propensities."""

    def __init__(self, seed: int, classes: int = 4) -> None:
        generator = np.random.default_rng(seed)
        n = int(generator.integers(20, 80))
        chances = generator.integers(1, 5, (n, classes)).astype(float)
        self.classes, self.chances = classes, chances / chances.sum(axis=1, keepdims=True)
        self.truth = generator.integers(0, classes, n).astype(float)
        self.predicted = np.where(generator.random(n) < 0.4, self.truth, generator.integers(0, classes, n))
        self.numbers, self.guesses = generator.normal(size=(2, n))
        self.weights = 1 / generator.uniform(0.1, 1, n)
        self.groups = generator.integers(0, 9, n)
        self.known = generator.random(n) < 0.7
        self.truth[~self.known] = np.nan
        self.numbers[~self.known] = np.nan

    def confusion(self) -> ConfusionSums:
        return ConfusionSums.of(self.classes, self.truth, self.predicted, self.weights, self.groups)


@CASES
@given(SEEDS)
def test_shares_of_classes(seed: int) -> None:
    drawn = Drawn(seed)
    here, sums = drawn.known, drawn.confusion()
    truth, predicted, weights = drawn.truth[here], drawn.predicted[here], drawn.weights[here]
    given_weights = {"sample_weight": weights}
    assert sums.accuracy().value == pytest.approx(reference.accuracy_score(truth, predicted, **given_weights))
    with np.errstate(all="ignore"):
        balanced = reference.recall_score(
            truth, predicted, labels=np.unique(truth), average="macro", zero_division=0, **given_weights
        )
    assert sums.balanced_accuracy().value == pytest.approx(balanced)
    theirs = reference.precision_recall_fscore_support(
        truth, predicted, labels=range(drawn.classes), zero_division=np.nan, **given_weights
    )
    for code in range(drawn.classes):
        for figure, value in zip((sums.precision(code), sums.recall(code), sums.f1(code)), theirs, strict=False):
            assert figure.value == (None if np.isnan(value[code]) else pytest.approx(value[code]))
    matrix = reference.confusion_matrix(truth, predicted, labels=range(drawn.classes), **given_weights)
    np.testing.assert_allclose(sums.matrix(), matrix)


@CASES
@given(SEEDS)
def test_average_precision(seed: int) -> None:
    drawn = Drawn(seed)
    here = drawn.known
    for code in range(drawn.classes):
        positive, scores = drawn.truth[here] == code, drawn.chances[here, code]
        found = RankingSums.of(positive, scores, drawn.weights[here]).average_precision()
        if not positive.any():
            assert found is None
            continue
        assert found == pytest.approx(
            reference.average_precision_score(positive, scores, sample_weight=drawn.weights[here])
        )


@CASES
@given(SEEDS)
def test_errors_of_numbers_and_of_probabilities(seed: int) -> None:
    drawn = Drawn(seed, classes=2)
    here = drawn.known
    errors, weighed = drawn.numbers - drawn.guesses, {"sample_weight": drawn.weights[here]}
    pair = drawn.numbers[here], drawn.guesses[here]
    absolute = MeanSums.of(np.abs(errors), drawn.weights, drawn.groups).mean().value
    assert absolute == pytest.approx(reference.mean_absolute_error(*pair, **weighed))
    squared = root(MeanSums.of(errors**2, drawn.weights, drawn.groups).mean()).value
    assert squared == pytest.approx(reference.root_mean_squared_error(*pair, **weighed))
    brier = MeanSums.brier(drawn.truth, drawn.chances, drawn.weights, drawn.groups).mean().value
    binary = reference.brier_score_loss(drawn.truth[here] == 1, drawn.chances[here, 1], **weighed)
    assert brier == pytest.approx(2 * binary)  # the sum over both classes


@CASES
@given(SEEDS)
def test_inverse_propensity_gives_the_mixture_that_was_thinned(seed: int) -> None:
    """A label kept with a propensity of 1/k counts as k labels: all figures are those of the repeated labels."""
    drawn = Drawn(seed)
    times = np.random.default_rng(seed).integers(1, 5, len(drawn.truth))
    weighed = ConfusionSums.of(drawn.classes, drawn.truth, drawn.predicted, times.astype(float), drawn.groups)
    repeated = ConfusionSums.of(
        drawn.classes, *(np.repeat(part, times) for part in (drawn.truth, drawn.predicted)), np.ones(times.sum()),
        np.repeat(drawn.groups, times),
    )  # fmt: skip
    for code in range(drawn.classes):
        for name in ("precision", "recall", "f1"):
            value = getattr(repeated, name)(code).value
            assert getattr(weighed, name)(code).value == (None if value is None else pytest.approx(value))
    positive, scores = drawn.truth == 1, drawn.chances[:, 1]
    assert RankingSums.of(positive, scores, times.astype(float)).average_precision() == pytest.approx(
        RankingSums.of(
            *(np.repeat(part, times) for part in (positive, scores)), np.ones(times.sum())
        ).average_precision()
    )
