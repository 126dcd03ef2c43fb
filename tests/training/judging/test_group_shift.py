"""The exchange of whole groups: false findings at their rate, real ones found, whatever the bursts."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from curation.analysis.missingness import coded_attribute
from training.judging.group_shift import GroupMeans, exchange_p, most_found


def columns(generator: np.random.Generator, first: int, second: int, shift: float = 0.0) -> list[GroupMeans]:
    """Three texts and three numbers, alike within bursts of uneven length; one of each differs by `shift`."""
    count = first + second
    groups = np.repeat(np.arange(count), generator.geometric(0.25, count))
    inside = np.isin(groups, generator.choice(count, second, replace=False))
    found = []
    for place in range(3):
        moved = shift * (place == 0) * inside
        text = (generator.normal(size=count)[groups] + moved > 0.3).astype(str)
        number = generator.normal(size=count)[groups] + 0.3 * generator.normal(size=len(groups)) + moved
        for value in (pa.chunked_array([text.tolist()]), pa.chunked_array([number])):
            coded = coded_attribute("x", value, groups)
            assert coded is not None
            found.append(GroupMeans.of(coded, groups, inside))
    return found


@pytest.mark.parametrize("second", [12, 40])
def test_p_is_as_small_by_chance_as_it_says(second: int) -> None:
    generator = np.random.default_rng(second)
    p = np.concatenate([exchange_p(columns(generator, 60, second), seed) for seed in range(60)])
    assert stats.kstest(p[1::2], "uniform").pvalue > 0.001  # of texts, many choices give the same statistic
    assert (p <= 0.05).mean() <= 0.09


def test_a_shift_is_found_and_the_rest_is_not() -> None:
    found = columns(np.random.default_rng(0), 120, 60, shift=1.5)
    q = stats.false_discovery_control(exchange_p(found, 0))
    assert (q <= 0.05).tolist() == [True, True, False, False, False, False]
    first, second = found[1].sides()
    assert second[0] > first[0] + 0.2


@given(seed=st.integers(0, 99))
def test_p_depends_neither_on_the_order_of_values_nor_on_their_unit(seed: int) -> None:
    one = columns(np.random.default_rng(seed), 20, 10)[:1]
    turned = [GroupMeans(means=3 - 2 * one[0].means[:, ::-1], second=one[0].second)]
    assert exchange_p(one, 1) == pytest.approx(exchange_p(turned, 1))


def test_few_groups_cannot_find_and_one_set_says_nothing() -> None:
    (column, *_) = columns(np.random.default_rng(1), 20, 10)
    assert most_found(column) == pytest.approx(1 / 30045015)
    tiny = GroupMeans(means=np.arange(5.0)[:, None], second=np.array([0.0, 0, 0, 1, 1]))
    assert most_found(tiny) == pytest.approx(0.1)
    assert exchange_p([tiny], 0) >= 0.08
    assert exchange_p([GroupMeans(means=tiny.means, second=np.zeros(5))], 0).tolist() == [1.0]


def test_many_groups_are_merged_inside_each_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.judging.group_shift.MOST_GROUPS", 50)
    found = columns(np.random.default_rng(3), 120, 60, shift=1.5)
    assert all(len(part.second) <= 51 and set(part.second.tolist()) == {0.0, 1.0} for part in found)
    assert exchange_p(found, 0)[:2].max() < 0.01
