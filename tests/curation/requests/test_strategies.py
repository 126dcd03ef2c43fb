"""Each strategy on arrays small enough to check by hand, and the rule that spreads a budget."""

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.requests.budget import largest_remainder
from curation.requests.strategies import at_random, best_first, most_likely_rare, one_of_each_group, smallest_margin

GROUPS = np.array(["a", "a", "b", "b", "c"], dtype=object)
NONE = np.zeros(5, np.bool_)


def test_most_likely_rare_adds_the_chances_of_the_classes_inside() -> None:
    chances = np.array([[0.1, 0.2, 0.7], [0.5, 0.4, 0.1]])
    inside = np.array([[False, True, True], [False, True, False]])
    assert most_likely_rare(chances, inside) == pytest.approx([0.9, 0.4])


def test_smallest_margin_is_largest_where_two_classes_tie() -> None:
    chances = np.array([[0.4, 0.4, 0.2], [0.1, 0.8, 0.1], [0.5, 0.5, 0.0]])
    assert smallest_margin(chances, np.array([True, True, False])) == pytest.approx([1.0, 0.3, 0.0])


def test_one_of_each_group_comes_before_the_second_of_any() -> None:
    assert one_of_each_group(np.arange(5), GROUPS, NONE).tolist() == [0, 2, 4, 1, 3]


def test_a_group_with_a_taken_row_has_had_its_turn() -> None:
    taken = np.array([False, True, False, False, False])
    assert one_of_each_group(np.arange(5), GROUPS, taken).tolist() == [1, 2, 4, 0, 3]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=40), st.randoms(use_true_random=False))
def test_turns_of_groups_are_those_of_counting_one_by_one(rows: list[tuple[int, bool]], random: Random) -> None:
    groups, taken = (np.array([row[part] for row in rows], kind) for part, kind in ((0, np.int64), (1, np.bool_)))
    order = np.array(random.sample(range(len(rows)), len(rows)), np.int64)
    seen, turn = Counter[int](), {}
    counted = [*order[taken[order]].tolist(), *order[~taken[order]].tolist()]
    for row in counted:
        turn[row] = seen[int(groups[row])]
        seen[int(groups[row])] += 1
    assert one_of_each_group(order, groups, taken).tolist() == sorted(counted, key=turn.__getitem__)


def test_best_first_leaves_out_taken_rows_and_zero_scores() -> None:
    scores, open_ = np.array([0.9, 0.8, 0.7, 0.0, 0.95]), np.array([True, True, True, True, False])
    assert best_first(scores, open_, GROUPS).tolist() == [0, 2, 1]


@pytest.mark.parametrize(("count", "drawn", "propensity"), [(2, 2, 0.5), (4, 4, 1.0), (9, 4, 1.0), (0, 0, 0.0)])
def test_at_random_draws_open_rows_with_their_propensity(count: int, drawn: int, propensity: float) -> None:
    rows, chance = at_random(np.array([True, False, True, True, True]), count, [0, 1])
    assert (len(set(rows.tolist())), chance) == (drawn, propensity)
    assert set(rows.tolist()) <= {0, 2, 3, 4}
    assert rows.tolist() == sorted(rows.tolist())


@given(st.dictionaries(st.integers(0, 20), st.floats(0.001, 1000), min_size=1), st.integers(0, 500))
def test_counts_add_up_and_differ_from_their_share_by_less_than_one(weights: dict[int, float], total: int) -> None:
    counts = largest_remainder(weights, total)
    assert sum(counts.values()) == total
    whole = sum(weights.values())
    assert all(abs(counts[key] - total * weight / whole) < 1 for key, weight in weights.items())


def test_the_largest_remainder_gets_the_next_label() -> None:
    assert largest_remainder({"a": 1.0, "b": 1.4, "c": 3.6}, 6) == {"a": 1, "b": 1, "c": 4}
    assert largest_remainder({"a": 0.0, "b": 0.0}, 6) == {"a": 0, "b": 0}
