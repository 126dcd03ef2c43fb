"""Slices that nobody declared: planted pairs are found and confirmed, and null data are silent."""

import numpy as np
import pytest
from scipy import stats

from curation.arrays import Bools, Ints
from training.judging.discovery import SUPPORT, Conditions, JudgedErrors, confirmed_p, found_on

GROUPS, PER = 600, 4


def planted(seed: int, pairs: int) -> tuple[JudgedErrors, Conditions, Bools, list[Bools]]:
    """Errors that are alike in a group; in the images of each planted pair of conditions they are 0.4 more frequent."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(GROUPS), PER)
    values = [generator.integers(0, 4, GROUPS)[groups] for _ in range(6)]
    holds = np.array([value == code for value in values for code in range(4)])
    truth = [holds[8 * number] & holds[8 * number + 4] for number in range(pairs)]
    chance = np.clip(0.1 + 0.1 * generator.normal(size=GROUPS), 0.01, 0.5)[groups]
    for inside in truth:
        chance = np.where(inside, chance + 0.4, chance)
    errors = (generator.random(len(groups)) < chance).astype(float)
    judged = JudgedErrors(errors=errors, weights=np.ones(len(groups)), groups=groups)
    conditions = Conditions(holds=holds, columns=np.repeat(np.arange(6), 4), alone=np.zeros(24, np.bool_))
    return judged, conditions, np.asarray(generator.permutation(GROUPS)[groups] % 2 == 0), truth


def reported(seed: int, pairs: int) -> tuple[list[Bools], list[Bools]]:
    """The images of what is found at a false discovery rate of 5%, and of what was planted."""
    judged, conditions, half, truth = planted(seed, pairs)
    found = found_on(judged.at(half), conditions.at(half))
    p = confirmed_p(judged.at(~half), conditions.at(~half), found)
    q = stats.false_discovery_control(p) if len(p) else p
    return [conditions.inside(part) for part, rate in zip(found, q, strict=True) if rate <= 0.05], truth


def same(first: Bools, second: Bools) -> bool:
    return bool((first & second).sum() >= 0.5 * (first | second).sum())


def test_planted_pairs_are_found_and_little_else() -> None:
    found = [reported(seed, 3) for seed in range(3)]
    hits = sum(any(same(part, other) for other in parts) for parts, truth in found for part in truth)
    false = sum(not any(same(part, other) for other in truth) for parts, truth in found for part in parts)
    assert hits >= 8
    assert false <= 1


def test_errors_that_depend_on_nothing_give_nothing() -> None:
    assert [len(reported(seed, 0)[0]) for seed in range(4)] == [0, 0, 0, 0]


def test_one_sample_a_group_is_welchs_test() -> None:
    generator = np.random.default_rng(0)
    inside, errors = generator.random(400) < 0.3, generator.normal(size=400)
    judged = JudgedErrors(errors=errors, weights=np.ones(400), groups=np.arange(400))
    usual = stats.ttest_ind(errors[inside], errors[~inside], equal_var=False).statistic
    assert judged.z(inside) == pytest.approx(usual, rel=0.01)


def test_frames_of_a_burst_count_once() -> None:
    generator = np.random.default_rng(1)
    inside, errors = generator.random(400) < 0.3, (generator.random(400) < 0.2).astype(float)
    once = JudgedErrors(errors=errors, weights=np.ones(400), groups=np.arange(400))
    groups: Ints = np.repeat(np.arange(400), 7)
    often = JudgedErrors(errors=np.repeat(errors, 7), weights=np.ones(2800), groups=groups)
    assert often.z(np.repeat(inside, 7)) == pytest.approx(once.z(inside))


def test_a_condition_of_few_groups_is_no_candidate() -> None:
    judged, conditions, _, _ = planted(0, 0)
    rare = np.isin(judged.groups, np.arange(SUPPORT - 1))
    judged = JudgedErrors(errors=rare.astype(float), weights=judged.weights, groups=judged.groups)
    assert judged.z(np.asarray(rare, np.bool_)) == 0
    assert all(len(part) <= 3 for part in found_on(judged, conditions))


def test_a_condition_that_stands_alone_is_joined_with_none() -> None:
    judged, conditions, _, truth = planted(2, 1)
    apart = Conditions(holds=np.stack([*conditions.holds, truth[0]]), columns=np.append(conditions.columns, 9),
                       alone=np.append(conditions.alone, True))  # fmt: skip
    first = found_on(judged, apart)[0]
    assert first == (24,) or 24 not in first
