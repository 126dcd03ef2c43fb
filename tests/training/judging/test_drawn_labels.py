"""Labels drawn with a propensity: how they are drawn, what they weigh, and the estimators that use them."""

import doctest

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.requests import evaluation_labels
from curation.requests.evaluation_labels import drawn, propensities
from training.evaluation import drawn_labels
from training.evaluation.drawn_labels import Batch, label_weights
from training.judging import difference_estimator, disagreement
from training.judging.disagreement import PairedImages, difference_where_labelled, gains

Floats = npt.NDArray[np.float64]


@pytest.mark.parametrize("module", [evaluation_labels, drawn_labels, difference_estimator, disagreement])
def test_examples(module: object) -> None:
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0  # type: ignore[arg-type]


@given(seed=st.integers(0, 999), size=st.integers(1, 40), share=st.floats(0, 1))
def test_propensities_sum_to_the_count_and_keep_the_order_of_sizes(seed: int, size: int, share: float) -> None:
    sizes, count = np.random.default_rng(seed).gamma(0.3, size=size) + 1e-6, round(share * size)
    found = propensities(sizes, count)
    assert found.sum() == pytest.approx(count)
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found[np.argsort(sizes)]) >= -1e-12).all()
    assert len(drawn(found, [seed])) == count


def test_each_image_is_drawn_with_its_propensity() -> None:
    chance = propensities(np.arange(1.0, 21.0), 7)
    times = np.bincount(np.concatenate([drawn(chance, [seed]) for seed in range(4000)]), minlength=20)
    assert times / 4000 == pytest.approx(chance, abs=4 * 0.5 / 4000**0.5)


@given(seed=st.integers(0, 999), known=st.integers(0, 10), first=st.integers(1, 10), second=st.integers(1, 10))
def test_weights_of_several_batches_sum_to_the_images(seed: int, known: int, first: int, second: int) -> None:
    """Drawn with equal chances, known ones once, so every sum over images is met exactly for a constant."""
    order, every = np.random.default_rng(seed).permutation(40), np.ones(40, np.bool_)
    batches, taken = [], known
    for opened, count in ((2, first), (5, second)):
        rows, left = order[taken : taken + count], 40 - taken
        batches.append(Batch(opened=opened, pool=every, rows=rows, propensity=np.full(count, count / left)))
        taken += count
    assert label_weights(batches, order[:taken], every).sum() == pytest.approx(40)
    assert label_weights(batches, order[: taken - 1], every).sum() == pytest.approx(40)  # one without an answer


def test_a_draw_for_another_cell_weighs_nothing_until_a_later_batch_knows_it() -> None:
    every, rows = np.ones(6, np.bool_), np.arange(4)
    other = Batch(opened=1, pool=None, rows=np.array([1]), propensity=np.array([0.2]))
    assert label_weights([other], rows, every).tolist() == [1, 0, 1, 1]
    later = Batch(opened=2, pool=every, rows=np.array([3]), propensity=np.array([1 / 3]))
    assert label_weights([other, later], rows, every) == pytest.approx([1, 1, 1, 3])
    inner = Batch(opened=2, pool=np.arange(6) > 1, rows=np.array([3]), propensity=np.array([1 / 3]))
    assert label_weights([inner], rows, every).tolist() == [1, 1, 1, 0]  # its pool lacks some of the cell
    assert label_weights([inner], rows, np.arange(6) > 2) == pytest.approx([1, 1, 1, 3])


def _pair(seed: int, images: int = 900) -> tuple[PairedImages, Floats, npt.NDArray[np.int64]]:
    """Two runs of a task of three classes with an error of 10% each, which disagree on a tenth of the images."""
    generator, groups = np.random.default_rng(seed), np.repeat(np.arange(images // 3), 3)
    hard = generator.normal(size=images // 3)[groups] + generator.normal(size=images)
    truth = generator.integers(0, 3, images)
    codes = []
    for _ in range(2):
        wrong = hard + generator.normal(size=images) * 0.4 > 1.9
        codes.append(np.where(wrong, (truth + generator.integers(1, 3, images)) % 3, truth))
    chances = [np.eye(3)[code] * 0.6 + 0.4 / 3 for code in codes]
    pair = PairedImages(run=codes[0] * 1.0, base=codes[1] * 1.0, run_chances=chances[0], base_chances=chances[1])
    return pair, truth * 1.0, groups


def _estimated(pair: PairedImages, truth: Floats, groups: npt.NDArray[np.int64], count: int, seed: int) -> tuple:  # type: ignore[type-arg]
    where = np.flatnonzero(pair.differs)
    chance = propensities(pair.sizes()[where], count)
    rows = drawn(chance, [seed])
    seen = np.full(len(truth), np.nan)
    seen[where[rows]] = truth[where[rows]]
    batch = Batch(opened=1, pool=pair.differs, rows=where[rows], propensity=chance[rows])
    figure = difference_where_labelled(pair, seen, np.ones(len(truth)), groups, [batch])
    return figure.value, figure.low, figure.high


def test_the_difference_is_unbiased_and_its_interval_covers() -> None:
    pair, truth, groups = _pair(0)
    true = float(gains(pair, truth).mean())
    found = np.array([_estimated(pair, truth, groups, 40, seed) for seed in range(300)])
    assert found[:, 0].mean() == pytest.approx(true, abs=4 * found[:, 0].std() / 300**0.5)
    assert 0.92 <= np.mean((found[:, 1] <= true) & (true <= found[:, 2])) <= 0.99


def test_a_difference_with_every_disagreement_labelled_is_exact() -> None:
    pair, truth, groups = _pair(1)
    figure = difference_where_labelled(pair, np.where(pair.differs, truth, np.nan), np.ones(len(truth)), groups, [])
    true = gains(pair, truth).mean()
    assert (figure.value, figure.low, figure.high) == pytest.approx((true, true, true))


def test_a_difference_needs_twenty_labels_that_were_drawn_for_it() -> None:
    pair, truth, groups = _pair(2)
    assert _estimated(pair, truth, groups, 19, 0) == (None, None, None)
    some = np.where(np.arange(len(truth)) % 2 == 0, truth, np.nan)
    figure = difference_where_labelled(pair, some, np.ones(len(truth)), groups, [])
    assert figure.value is None
    assert figure.n > 20


def test_numbers_are_drawn_by_their_distance() -> None:
    generator = np.random.default_rng(0)
    truth, none = generator.normal(size=600), np.empty((600, 0))
    base = truth + generator.normal(size=600)
    run = np.where(np.arange(600) % 5 > 0, base, truth + generator.normal(size=600) * 0.5)
    pair, groups = PairedImages(run=run, base=base, run_chances=none, base_chances=none), np.arange(600)
    true = gains(pair, truth).mean()
    found = np.array([_estimated(pair, truth, groups, 40, seed) for seed in range(200)])
    assert found[:, 0].mean() == pytest.approx(true, abs=4 * found[:, 0].std() / 200**0.5)
    assert np.mean((found[:, 1] <= true) & (true <= found[:, 2])) >= 0.92
