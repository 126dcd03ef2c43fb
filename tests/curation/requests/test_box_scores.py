"""Which images are requested for a task of boxes with attributes: few known values in turn, then decisions in doubt."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.arrays import Floats
from curation.requests.box_scores import BoxValues, fewest_first


def values(known: list[float], scores: Floats) -> BoxValues:
    return BoxValues(names=tuple("abcdef"[: len(known)]), known=np.array(known, np.float64), scores=scores)


def test_the_value_with_the_fewest_known_boxes_comes_first_and_then_they_take_turns() -> None:
    scores = np.zeros((6, 2))
    scores[:3, 0], scores[3:, 1] = (0.9, 0.8, 0.7), (1.0, 1.0, 1.0)
    picks = fewest_first(values([10, 8], scores), np.ones(6, np.bool_), np.arange(6), 4)
    assert [pick.row for pick in picks] == [3, 4, 0, 5]  # b twice, until both have 10; then a, to 10.9; then b
    assert picks[0].reason == "score of b = 1.000"
    assert {pick.arm for pick in picks} == {"mined"}


def test_a_value_without_a_predicted_box_leaves_its_turn_to_the_others() -> None:
    scores = np.array([[0.5, 0.0], [0.6, 0.0]])
    picks = fewest_first(values([10, 0], scores), np.ones(2, np.bool_), np.arange(2), 5)
    assert [pick.row for pick in picks] == [1, 0]


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 4), st.integers(0, 20))
def test_rows_are_open_and_of_different_groups(seed: int, rows: int, classes: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    groups, open_ = generator.integers(0, 8, rows), generator.random(rows) < 0.7
    known = generator.integers(0, 20, classes).astype(float).tolist()
    taken = np.flatnonzero(~open_)[:2].tolist()
    picks = fewest_first(values(known, generator.random((rows, classes))), open_, groups, count, taken)
    chosen = [pick.row for pick in picks]
    assert open_[chosen].all()
    assert len(set(groups[chosen].tolist())) == len(chosen)
    assert not set(groups[taken].tolist()) & set(groups[chosen].tolist())
    reachable = set(groups[open_].tolist()) - set(groups[taken].tolist())
    assert len(chosen) == min(count, len(reachable))


def test_known_boxes_of_a_turn_follow_what_is_expected() -> None:
    generator = np.random.default_rng(1)
    scores = generator.random((400, 3)) * 0.5
    picks = fewest_first(values([0, 0, 60], scores), np.ones(400, np.bool_), np.arange(400), 60)
    seen = scores[[pick.row for pick in picks]].sum(axis=0)
    assert seen[0] == pytest.approx(seen[1], abs=1.0)
    assert {pick.reason[9] for pick in picks} == {"a", "b"}
