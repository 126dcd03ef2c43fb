"""Pairs: tasks that say the same help each other, unrelated ones do nothing that is shown, and intervals cover."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.learned import make_features, planned, recipe

from curation import Task
from curation.errors import BadInput, Damaged, NotFound
from samplers.plan.plan import PlanTask
from training import Recipe
from training.dynamics.effects import Effects
from training.dynamics.pair_labels import pair_labels
from training.dynamics.pairs import DIRECTIONS, JudgedTask, compressed, measure_pairs
from training.loop.task_labels import TaskLabels

IMAGES, LABELS, WIDTH = 900, 60, 24
SHARED = Recipe.of("efficientnet_lite0", heads="shared", units=16, epochs=4, threads=1)
GENERATOR = np.random.default_rng(0)
FEATURES = torch.from_numpy(GENERATOR.normal(size=(IMAGES, WIDTH)).astype(np.float32))
RULES = GENERATOR.normal(size=(2, WIDTH))


def judged(name: str, rule: int) -> JudgedTask:
    """A binary task by a rule of the features, with a few labels of its own; half of the images judge it."""
    values = (FEATURES.numpy() @ RULES[rule] > 0).astype(np.float64)
    rows = np.sort(np.random.default_rng(ord(name[0])).choice(IMAGES // 2, LABELS, replace=False))
    test = np.arange(IMAGES // 2, IMAGES)
    task = PlanTask(
        task=Task(name=name, kind="binary", owner="ada"), owner="ada", share=1, importance=0.5, rule="natural",
        constant_loss=0.7, mean=0.0, deviation=1.0, labelled=(), class_factor=None, strata=(),
    )  # fmt: skip
    labels = TaskLabels(
        task=task, rows=rows, values=values[rows], weights=np.full(LABELS, 1 / LABELS), names=rows.astype(str)
    )
    return JudgedTask(
        labels=labels, features=FEATURES[test], weights=np.ones(len(test)), groups=test,
        strata=np.zeros(len(test), np.int64),
        points=lambda outputs: 100.0 * ((outputs[:, 0] > 0).numpy() == values[test]),
    )  # fmt: skip


TASKS = [judged("a", 0), judged("b", 0), judged("c", 1)]


@pytest.fixture(scope="module")
def effects() -> Effects:
    return measure_pairs(SHARED, TASKS, FEATURES, seeds=[0, 1, 2])


def test_kin_help_each_other_and_strangers_do_nothing_that_is_shown(effects: Effects) -> None:
    assert {(each.task, each.partner) for each in effects.effects if each.verdict == "synergy"} == {
        ("a", "b"), ("b", "a"),
    }  # fmt: skip
    assert [each.verdict for each in effects.effects].count("conflict") == 0


def test_the_gain_is_together_minus_alone_whatever_the_other_pairs(effects: Effects) -> None:
    two = measure_pairs(SHARED, TASKS[:2], FEATURES, seeds=[0, 1, 2])
    assert two.of("a", "b").gain == effects.of("a", "b").gain
    assert two.alone["a"] == effects.alone["a"]
    assert effects.gains[0, 1] == effects.of("a", "b").gain
    assert effects.gains.diagonal().tolist() == [0, 0, 0]


def test_intervals_of_more_pairs_are_wider() -> None:
    # of one seed, so the variance is that over groups, whatever the other pairs
    two, three = (measure_pairs(SHARED, tasks, FEATURES, seeds=[0]).of("a", "b") for tasks in (TASKS[:2], TASKS))
    assert two.gain == three.gain
    assert three.low is not None
    assert two.low is not None
    assert three.low < two.low < two.gain


def test_a_conflict_is_a_whole_interval_below_zero(effects: Effects) -> None:
    each = effects.of("a", "b")
    assert replace(each, low=-2.0, high=-1.0).verdict == "conflict"
    assert replace(each, low=-2.0, high=0.0).verdict == "cannot tell"
    assert replace(each, low=None, high=None).verdict == "cannot tell"


def test_directions_keep_distances_up_to_what_they_leave_out() -> None:
    few, many = torch.randn(40, 8), torch.randn(300, 3 * DIRECTIONS)
    assert compressed(few, [])[0] is few
    low_rank = torch.randn(300, 20) @ torch.randn(20, 3 * DIRECTIONS)
    for whole in (low_rank, low_rank[:100]):
        found, (other,) = compressed(whole, [low_rank[:5]])
        assert found.shape[1] <= DIRECTIONS
        assert torch.allclose(torch.cdist(other, found[:5]), torch.cdist(low_rank[:5], whole[:5]), rtol=1e-2, atol=0.5)
    assert compressed(many, [])[0].shape == (300, DIRECTIONS)


@pytest.mark.parametrize(("tasks", "seeds"), [(TASKS[:1], [0]), ([], [0]), (TASKS, [])])
def test_one_task_and_no_seed_are_refused(tasks: list[JudgedTask], seeds: list[int]) -> None:
    with pytest.raises(BadInput, match=r"a pair takes two tasks|none given"):
        measure_pairs(SHARED, tasks, FEATURES, seeds=seeds)


def test_the_record_is_read_back_and_a_damaged_one_is_named(tmp_path: Path, effects: Effects) -> None:
    (tmp_path / "runs" / "abc").mkdir(parents=True)
    with pytest.raises(NotFound, match="amber affinity abc --pairs"):
        Effects.open(tmp_path, "abc")
    effects.save(tmp_path, "abc")
    assert Effects.open(tmp_path, "abc") == effects
    path = tmp_path / "runs" / "abc" / "pairs.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(Damaged, match=r"pairs\.json"):
        Effects.open(tmp_path, "abc")


def test_labels_come_from_the_plan_and_are_judged_as_evaluation_judges(tmp_path: Path) -> None:
    catalog = make_features(tmp_path)
    plan, frozen = planned(catalog), replace(SHARED, size=recipe().size)
    found = pair_labels(catalog, plan, frozen)
    assert {task.name for task in found.tasks} | set(found.left_out) == {task.name for task in plan.tasks}
    color = next(task for task in found.tasks if task.name == "color")
    assert not set(found.left_out) & {"color"}
    perfect = torch.full((len(color.weights), 3), -20.0)
    perfect[torch.arange(len(color.weights)), torch.from_numpy(color.strata)] = 20.0
    assert color.points(perfect).tolist() == [100.0] * len(color.weights)
    speed = next(task for task in found.tasks if task.name == "speed")
    assert color.points(-perfect).max() == 0
    assert -float(speed.points(torch.zeros(len(speed.weights), 1)).mean()) == pytest.approx(100, abs=15)
    with pytest.raises(BadInput, match="task nosuch"):
        pair_labels(catalog, plan, frozen, only=["nosuch"])
