"""What a search may move: nobody's importance outside of it, and never a share, a rule or a boost."""

import math
from pathlib import Path

import pytest
from support.learned import make_features, planned, recipe

from curation import BadInput, Catalog
from curation.catalog.ownership import Identity
from samplers import Plan
from training.dynamics.search_space import open_tasks, recipe_space, weights_space
from training.recipe_parts import TaskRecipe

ANN, EVE = (Identity(name=name, via="user") for name in ("ann", "eve"))
GROUPS = [["car", "bike"], ["color"]]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = make_features(tmp_path_factory.mktemp("space"))
    with catalog.commit(author="eve", message="members") as change:
        change.set_members("eve", [EVE], by=EVE)
    return catalog


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> Plan:
    return planned(catalog, draws=320)


def test_tasks_of_owners_with_other_members_are_closed(catalog: Catalog, plan: Plan) -> None:
    with catalog.read() as now:
        assert set(open_tasks(plan, now, ANN)) == {"car", "bike", "color"}
        assert set(open_tasks(plan, now, EVE)) == {"car", "bike", "color", "speed"}


def test_importances_outside_the_groups_and_their_sum_stay(plan: Plan) -> None:
    space = weights_space(plan, GROUPS)
    found = space.importances(plan, {"importance color": 0.25})
    own = {task.name: task.importance for task in plan.tasks}
    assert found is not None
    assert found["speed"] == own["speed"]
    assert math.isclose(sum(found.values()), sum(own.values()))
    assert math.isclose(found["car"] / found["color"], 4.0)
    assert math.isclose(found["car"], found["bike"])


def test_what_stands_leaves_the_plan_as_it_is(plan: Plan) -> None:
    space = weights_space(plan, GROUPS)
    assert space.importances(plan, space.starts[0]) is None
    assert space.policy(plan, space.starts[0]).sampling_rules() == plan.header["policy"]


def test_a_policy_moves_nothing_but_importances(plan: Plan) -> None:
    space = weights_space(plan, GROUPS)
    moved = space.policy(plan, {"importance color": 0.25}).sampling_rules()
    for name, part in moved["task"].items():
        before = plan.header["policy"]["task"][name]
        assert {**part, "importance": 0} == {**before, "importance": 0}


def test_rates_and_decays_are_those_of_the_groups() -> None:
    base = recipe(tree="shared", learning_rate=0.01, task={"sign": {"smoothing": 0.1}})
    space = recipe_space(base, GROUPS)
    assert space.recipe(base, space.starts[0]).learning_rate == 0.01
    point = {**space.starts[0], "learning_rate": 0.02, "rate car+bike": 2.0, "decay color": 0.5}
    found = space.recipe(base, point)
    assert found.learning_rate == 0.02
    assert found.task["bike"].rate == 2.0
    assert found.task["color"].decay == 0.5
    assert found.task["sign"] == TaskRecipe(smoothing=0.1)


def test_what_stands_is_the_recipe_even_where_no_knob_reaches_it() -> None:
    base = recipe(tree="shared", weight_decay=0.0, task={name: {"rate": 9.0} for name in ("car", "bike")})
    space = recipe_space(base, GROUPS)
    assert space.recipe(base, space.starts[0]) == base
    assert space.recipe(base, {**space.starts[0], "learning_rate": 0.5}) != base


def test_one_group_has_no_weights(plan: Plan) -> None:
    with pytest.raises(BadInput, match="a search needs two"):
        weights_space(plan, [["car", "bike"]])


def test_a_group_whose_tasks_differ_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="put them into two groups"):
        recipe_space(recipe(tree="shared", task={"car": {"rate": 0.5}}), GROUPS)
