"""Average precision with an interval over groups."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.bootstrap import RESAMPLES, SEED, average_precision, average_precisions
from training.evaluation.intervals import share_of_variance
from training.evaluation.metrics import RankingSums


def drawn(generator: np.random.Generator, groups: int, each: int = 1) -> tuple[np.ndarray, ...]:
    """Labels of a class at 20%, whose scores know it, in groups of `each` equal labels."""
    positive = generator.random(groups) < 0.2
    scores = generator.normal(size=groups) + 1.5 * positive
    return (
        np.repeat(positive, each),
        np.repeat(scores, each),
        np.ones(groups * each),
        np.repeat(np.arange(groups), each),
    )


def test_the_value_is_that_of_the_ranking_and_the_interval_holds_it() -> None:
    labels = drawn(np.random.default_rng(1), 120)
    figure = average_precision(*labels)
    assert figure.value == RankingSums.of(*labels[:3]).average_precision()
    assert figure.low < figure.value < figure.high
    assert (figure.n, figure.groups) == (labels[0].sum(), labels[0].sum())
    assert average_precision(*labels) == figure


def test_the_interval_holds_the_truth() -> None:
    generator = np.random.default_rng(7)
    truth = average_precision(*drawn(generator, 100_000)[:3], np.zeros(100_000, np.int64)).value
    figures = [average_precision(*drawn(generator, 150)) for _ in range(60)]
    assert sum(figure.low <= truth <= figure.high for figure in figures) >= 52
    assert np.mean([figure.high - figure.low for figure in figures]) < 0.4


def test_copies_within_a_group_add_nothing() -> None:
    once, often = (average_precision(*drawn(np.random.default_rng(3), 100, each)) for each in (1, 5))
    assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high), abs=1e-12)
    assert often.groups == once.groups


def test_a_perfect_ranking_of_few_is_not_sure() -> None:
    figure = average_precision(np.arange(20) < 3, -np.arange(20.0), np.ones(20), np.arange(20))
    assert (figure.value, figure.high) == (1.0, 1.0)
    assert figure.low == pytest.approx(0.44, abs=0.02)  # Wilson of 3 of 3


def test_without_the_class_or_scores_there_is_no_value() -> None:
    nothing = average_precision(np.zeros(4, np.bool_), np.ones(4), np.ones(4), np.arange(4))
    unscored = average_precision(np.ones(4, np.bool_), np.full(4, np.nan), np.ones(4), np.arange(4))
    assert (nothing.value, unscored.value) == (None, None)


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 12))
def test_the_interval_is_that_of_resamples_one_by_one(seed: int, labels: int, groups: int) -> None:
    """Scores are tied often, weights differ, and each resample is ranked by `RankingSums`."""
    generator = np.random.default_rng(seed)
    positive, group = generator.random(labels) < 0.4, generator.integers(0, groups, labels)
    scores, weights = generator.integers(0, 8, labels) / 8, generator.choice([0.5, 1.0, 3.0], labels)
    figure = average_precision(positive, scores, weights, group)
    if figure.value is None:
        assert not positive.any()
        return
    names, codes = np.unique(group, return_inverse=True)
    drawn = np.random.default_rng(SEED).integers(0, len(names), (RESAMPLES, len(names)))
    times = [np.bincount(row, minlength=len(names))[codes] for row in drawn]
    repeated = [np.repeat(np.arange(labels), count) for count in times]
    each = [RankingSums.of(positive[rows], scores[rows], weights[rows]).average_precision() for rows in repeated]
    own = np.bincount(codes, weights * positive)
    plain = share_of_variance(
        figure.value, float(np.var([value for value in each if value is not None])),
        own.sum() ** 2 / (own**2).sum(), n=int((own > 0).sum()), groups=int((own > 0).sum()),
    )  # fmt: skip
    assert (figure.low, figure.high) == pytest.approx((plain.low, plain.high), abs=1e-9)


def test_classes_together_have_the_figures_of_each_alone() -> None:
    generator = np.random.default_rng(5)
    truth, scores, groups = generator.integers(0, 3, 300), generator.random((300, 4)), generator.integers(0, 40, 300)
    scores[7] = np.nan
    positive = truth[:, None] == np.arange(4)
    together = average_precisions(positive, scores, np.ones(300), groups)
    assert together == [average_precision(positive[:, c], scores[:, c], np.ones(300), groups) for c in range(4)]
    assert together[3].value is None
