"""Doubts of class labels, numbers and boxes: planted errors come first, and clean data give few."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.arrays import Floats, Ints
from training.evaluation.box_matching import Boxes, overlaps
from training.judging.box_doubts import BoxDoubt, doubted_boxes
from training.judging.doubts import doubted_classes, doubted_numbers

BURSTS, PER, CLASSES = 400, 5, 4


def bursts(seed: int, wrong: float) -> tuple[Ints, Floats, Ints, Ints]:
    """Labels of which whole bursts are wrong, probabilities that are right in most frames, groups, and who is wrong."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, CLASSES, BURSTS)
    bad = np.flatnonzero(generator.random(BURSTS) < wrong)
    said = truth.copy()
    said[bad] = (truth[bad] + generator.integers(1, CLASSES, len(bad))) % CLASSES
    groups = np.repeat(np.arange(BURSTS), PER)
    logits = (
        1.2 * generator.normal(size=(len(groups), CLASSES)) + 1.0 * generator.normal(size=(BURSTS, CLASSES))[groups]
    )
    logits[np.arange(len(groups)), truth[groups]] += 3.0
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return said[groups], chances, groups, bad


@pytest.mark.parametrize("seed", range(3))
def test_bursts_that_are_labelled_wrong_come_first(seed: int) -> None:
    given, chances, groups, bad = bursts(seed, 0.08)
    found = doubted_classes(given, chances, groups)
    first = [int(groups[part.rows[0]]) for part in found[: len(bad)]]
    assert len(set(first) & set(bad.tolist())) >= 0.75 * len(bad)
    assert all(len(part.rows) == PER for part in found)


def test_clean_bursts_are_rarely_doubted() -> None:
    given, chances, groups, _ = bursts(9, 0.0)
    assert sum(part.sure for part in doubted_classes(given, chances, groups)) <= 0.03 * BURSTS


def test_the_frame_that_fits_its_label_least_comes_first() -> None:
    chances = np.array([[0.4, 0.6], [0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.2, 0.8]])
    (found,) = doubted_classes(np.array([0, 0, 0, 0, 1]), chances, np.array([0, 0, 1, 1, 2]))
    assert (found.rows.tolist(), found.suggested, found.doubt) == ([1, 0], 1, pytest.approx(0.5))


def test_a_class_that_no_label_has_is_never_suggested() -> None:
    chances = np.array([[0.2, 0.1, 0.7], [0.1, 0.2, 0.7]])
    assert doubted_classes(np.array([0, 1]), chances, np.arange(2)) == []


def test_numbers_far_from_their_prediction_are_doubted_by_group() -> None:
    generator = np.random.default_rng(0)
    predicted, groups = generator.normal(50, 10, 400), np.repeat(np.arange(100), 4)
    given = predicted + generator.normal(0, 2, 400)
    given[groups == 7] += 30
    given[12] += 30  # one frame of a group whose others are right
    (found,) = doubted_numbers(given, predicted, groups)
    assert set(groups[found.rows]) == {7}
    assert found.given - found.suggested == pytest.approx(30, abs=4)
    assert doubted_numbers(predicted, predicted, groups) == []


def test_nothing_is_doubted_without_labels() -> None:
    assert doubted_classes(np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0, np.int64)) == []
    assert doubted_numbers(np.zeros(0), np.zeros(0), np.zeros(0, np.int64)) == []
    none = boxes([])
    assert doubted_boxes(none, none) == []


def boxes(rows: list[tuple[int, int, list[float], float]], crowd: bool = False) -> Boxes:
    """Boxes from image, class, corners and score."""
    return Boxes(
        images=np.array([row[0] for row in rows], np.int64), codes=np.array([row[1] for row in rows], np.int64),
        corners=np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        scores=np.array([row[3] for row in rows], np.float64), crowd=np.full(len(rows), crowd),
    )  # fmt: skip


GOOD = [(image, 0, [10.0, 10.0, 20.0, 20.0], 0.8) for image in range(5)]


def found(known: Boxes, predicted: Boxes) -> dict[str, BoxDoubt]:
    return {part.what: part for part in doubted_boxes(known, predicted)}


def test_a_box_that_is_missing_spurious_or_badly_placed_is_named() -> None:
    known = boxes([*GOOD, (5, 0, [100.0, 100.0, 20.0, 20.0], 1.0), (6, 0, [20.0, 10.0, 20.0, 20.0], 1.0)])
    predicted = boxes([*GOOD, (6, 0, [10.0, 10.0, 20.0, 20.0], 0.8), (7, 0, [0.0, 0.0, 9.0, 9.0], 0.7)])
    doubts = found(known, predicted)
    assert doubts["missing"].image == 7
    assert doubts["spurious"].image == 5
    assert (doubts["badly placed"].image, doubts["badly placed"].suggested) == (6, (10.0, 10.0, 20.0, 20.0))
    assert len(doubted_boxes(known, predicted)) == 3


def test_boxes_of_another_class_or_image_do_not_count() -> None:
    known = boxes([*GOOD, (5, 1, [10.0, 10.0, 20.0, 20.0], 1.0)])
    doubts = found(known, boxes([*GOOD, (5, 0, [10.0, 10.0, 20.0, 20.0], 0.9)]))
    assert set(doubts) == {"missing", "spurious"}
    assert doubts["missing"].code == 0


def test_what_is_unsure_or_said_twice_or_lies_in_a_crowd_is_not_missing() -> None:
    weak = boxes([*GOOD, (5, 0, [50.0, 50.0, 9.0, 9.0], 0.2)])
    assert doubted_boxes(boxes(GOOD), weak) == []
    twice = boxes([*GOOD, (5, 0, [50.0, 50.0, 9.0, 9.0], 0.8), (5, 0, [51.0, 50.0, 9.0, 9.0], 0.7)])
    assert len(doubted_boxes(boxes(GOOD), twice)) == 1
    inside = boxes([*GOOD, (5, 0, [50.0, 50.0, 9.0, 9.0], 0.8)])
    known = boxes([*GOOD, (5, 0, [40.0, 40.0, 50.0, 50.0], 1.0)])
    known.crowd[-1] = True
    assert doubted_boxes(known, inside) == []


corner = st.floats(0, 50)
side = st.floats(1, 30)
box = st.tuples(st.integers(0, 2), st.integers(0, 1), st.tuples(corner, corner, side, side), st.floats(0.05, 1))
rows = st.lists(box, max_size=8)


@settings(max_examples=50, deadline=None)
@given(rows, rows)
def test_pairs_are_those_of_one_image_and_class(one: list[Any], other: list[Any]) -> None:
    predicted, known = boxes(one), boxes(other)
    first, second, overlap = overlaps(predicted, known)
    there = {(int(a), int(b)) for a, b in zip(first, second, strict=True)}
    assert there == {
        (a, b) for a, (i, c, _, _) in enumerate(one) for b, (j, d, _, _) in enumerate(other) if (i, c) == (j, d)
    }
    assert ((overlap >= 0) & (overlap <= 1 + 1e-9)).all()
    doubts = doubted_boxes(known, predicted)
    assert all(0 <= part.doubt <= 1 for part in doubts)
