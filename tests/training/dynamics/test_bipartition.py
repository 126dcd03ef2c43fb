"""Groups of similar tasks: planted ones are found, exactly and by moves, and every partition refines the one before."""

import doctest

import numpy as np
import pytest

from training.dynamics import bipartition
from training.dynamics.bipartition import partitions


def planted(families: list[int], seed: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    same = np.equal.outer(families, families)
    noise = np.random.default_rng(seed).normal(size=same.shape) * 0.1
    return np.where(same, 0.6, 0.1) + noise + noise.T


@pytest.mark.parametrize("size", [9, 30])
@pytest.mark.parametrize("seed", range(3))
def test_planted_families_are_found(size: int, seed: int) -> None:
    families = [number % 3 for number in range(size)]
    two, three, four = partitions(planted(families, seed), 4)
    assert three == tuple(tuple(range(family, size, 3)) for family in range(3))
    for coarse, fine in ((two, three), (three, four)):
        assert len(fine) == len(coarse) + 1
        assert all(any(set(part) <= set(whole) for whole in coarse) for part in fine)


def test_there_are_at_most_as_many_groups_as_tasks() -> None:
    assert [len(each) for each in partitions(np.zeros((3, 3)), 4)] == [2, 3]
    assert partitions(np.zeros((1, 1)), 4) == []


def test_the_example_runs() -> None:
    assert doctest.testmod(bipartition).failed == 0
