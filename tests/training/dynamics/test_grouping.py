"""Grouping: the same optimum as trying every division with every set of helpers, within any number of networks."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pytest

from curation.arrays import Floats
from curation.errors import BadInput
from training.dynamics import grouping
from training.dynamics.grouping import choose_groups, grouping_of


def divisions(tasks: Sequence[int]) -> Iterator[list[frozenset[int]]]:
    """Every division of the tasks into blocks."""
    if not tasks:
        yield []
        return
    first, *rest = tasks
    for found in divisions(rest):
        yield [frozenset([first]), *found]
        for at in range(len(found)):
            yield [*found[:at], found[at] | {first}, *found[at + 1 :]]


def brute_force(gains: Floats, networks: int, *, helpers: bool) -> float:
    """The largest mean of expected gains, over everything that can be chosen."""
    every = range(len(gains))
    sets = [frozenset(part) for size in every for part in combinations(every, size + 1)]

    def worth(block: frozenset[int], learned: frozenset[int]) -> float:
        others = max(1, len(learned) - 1)
        return float(sum(gains[task, other] for task in block for other in learned if other != task) / others)

    best = {
        block: max(worth(block, learned) for learned in (sets if helpers else [block]) if block <= learned)
        for block in sets
    }  # fmt: skip
    sums = [sum(best[block] for block in found) for found in divisions(every) if len(found) <= networks]
    return max(sums) / len(gains)


def names(count: int) -> list[str]:
    return [f"t{code}" for code in range(count)]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("helpers", [True, False])
@pytest.mark.parametrize("networks", [1, 2, 3, 6])
def test_the_optimum_is_that_of_brute_force(
    monkeypatch: pytest.MonkeyPatch, networks: int, helpers: bool, exact: bool
) -> None:
    if not exact:
        monkeypatch.setattr(grouping, "EXACT", 0)
    for seed in range(4):
        gains = np.random.default_rng(seed).normal(size=(6, 6))
        np.fill_diagonal(gains, 0)
        found = choose_groups(names(6), gains, networks, helpers=helpers)
        assert found.proven
        assert found.gain == pytest.approx(brute_force(gains, networks, helpers=helpers))
        assert sorted(name for network in found.networks for name in network.serves) == names(6)
        assert len(found.networks) <= networks


def test_families_come_apart_and_a_tie_takes_fewer_networks() -> None:
    families = np.asarray(np.kron(np.eye(2), np.ones((2, 2))) * 4 - 2, np.float64)
    found = choose_groups(names(4), families, 4)
    assert [network.serves for network in found.networks] == [("t0", "t1"), ("t2", "t3")]
    assert [network.serves for network in choose_groups(names(4), np.zeros((4, 4)), 4).networks] == [tuple(names(4))]


def test_a_helper_is_learned_where_it_pays_and_served_elsewhere() -> None:
    gains = np.array([[0.0, 3.0], [-9.0, 0.0]])
    found = choose_groups(names(2), gains, 2, helpers=True)
    assert [(network.serves, network.helpers) for network in found.networks] == [(("t0",), ("t1",)), (("t1",), ())]
    assert found.gains == {"t0": 3.0, "t1": 0.0}


def test_given_groups_are_weighed_as_chosen_ones() -> None:
    gains = np.array([[0.0, 1.0, 3.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert grouping_of(names(3), gains, [names(3)]).gains == {"t0": 2.0, "t1": 1.0, "t2": 0.0}
    assert grouping_of(names(3), gains, [[name] for name in names(3)]).gain == 0


@pytest.mark.parametrize(("count", "networks"), [(0, 1), (2, 0)])
def test_nothing_to_group_is_refused(count: int, networks: int) -> None:
    with pytest.raises(BadInput, match="must be at least 1"):
        choose_groups(names(count), np.zeros((count, count)), networks)
