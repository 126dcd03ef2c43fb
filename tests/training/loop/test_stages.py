"""Stages: each draws from its own plan, only its tasks learn, and a killed run goes on inside a stage."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.learned import make_features, planned, recipe

from curation import BadInput, Catalog
from curation.errors import Failed
from samplers import Plan
from training import Run, train
from training.loop.checkpoint import Stop
from training.loop.drawing import Drawing
from training.network.model import load_any
from training.network.tree_network import TreeNetwork
from training.run import run_id

FIRST: dict[str, Any] = {"part": 0.5, "tasks": ["color", "car"]}
SECOND = {"part": 0.25, "tasks": ["speed"], "fixed": True}
THIRD = {"part": 0.25}


def staged(*stages: dict[str, Any], **changed: Any) -> Any:
    return recipe(**({"tree": "shared", "learning_rate": 0.02, "stages": list(stages)} | changed))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_features(tmp_path_factory.mktemp("staged"))


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> Plan:
    return planned(catalog, draws=320)


@pytest.fixture(scope="module")
def run(catalog: Catalog, plan: Plan) -> Run:
    return train(staged(FIRST, SECOND, THIRD), plan, catalog)


def test_each_stage_is_a_plan_of_the_course(catalog: Catalog, plan: Plan, run: Run) -> None:
    assert [start for start, _ in run.course] == [0, 160, 240]
    plans = [Plan.open(catalog.home, hash_) for _, hash_ in run.course]
    names = {task.name for task in plan.tasks}
    assert [{task.name for task in each.tasks if task.share > 0} for each in plans] == [
        {"color", "car"}, {"speed"}, names,
    ]  # fmt: skip
    assert Plan.newest(catalog.home).hash == plan.hash
    assert run.alarm == ""


def test_the_heads_of_resting_tasks_do_not_move(catalog: Catalog, plan: Plan) -> None:
    one = load_any(train(staged({**FIRST, "part": 1.0}), plan, catalog), plan.tasks, catalog.home)
    start = load_any(
        train(staged({**FIRST, "part": 1.0}, learning_rate=1e-12), plan, catalog), plan.tasks, catalog.home
    )
    assert isinstance(one, TreeNetwork)
    assert isinstance(start, TreeNetwork)
    for code, task in enumerate(plan.tasks):
        node, rows = one.rows(code)
        moved = not torch.allclose(one.head(node).weight[rows], start.head(node).weight[rows], atol=1e-6)
        assert moved == (task.name in FIRST["tasks"])


@pytest.mark.parametrize("fixed", [True, False])
def test_a_fixed_stage_moves_its_own_head_alone(catalog: Catalog, plan: Plan, fixed: bool) -> None:
    # the schedule is constant, so that the first half of both runs is the same
    made = [
        staged(FIRST, {"part": 0.5, "tasks": ["speed"], "fixed": fixed}, schedule="constant", warmup=0.0),
        staged(FIRST, {"part": 0.5, "tasks": ["bike"], "fixed": fixed}, schedule="constant", warmup=0.0),
    ]
    networks = [load_any(train(each, plan, catalog), plan.tasks, catalog.home) for each in made]
    first, second = (network.branches["shared"][0].weight for network in networks)  # type: ignore[union-attr, index]
    assert torch.equal(first, second) == fixed


def test_a_run_that_was_stopped_in_a_stage_ends_at_the_same_bits(catalog: Catalog, plan: Plan, run: Run) -> None:
    for steps in (10, 13):  # at the first step of a stage, and inside it
        made = staged(FIRST, SECOND, THIRD, threads=1)
        folder = catalog.home / "runs" / f"stopped-{steps}"
        stop = Stop()
        drawing = Drawing(made, plan, catalog, folder)
        learn = drawing._learn

        def counted(
            *words: Any, steps: int = steps, learn: Any = learn, stop: Stop = stop, drawing: Any = drawing
        ) -> Any:
            stop.asked = drawing.step + 1 >= steps
            return learn(*words[:-1], stop.asked)

        drawing._learn = counted  # type: ignore[method-assign, assignment]
        with pytest.raises(Failed, match=f"stopped after step {steps}"):
            drawing.run(stop=stop)
        again = Drawing(made, plan, catalog, folder)
        again.run()
        whole = load_any(run, plan.tasks, catalog.home).state_dict()
        assert all(torch.equal(part, whole[name]) for name, part in again.network.state_dict().items())
        assert again.drawn.affinity == run.affinity


@pytest.mark.parametrize(
    ("stages", "more", "says"),
    [
        ([{"part": 0.5}], {}, r"parts 0.5 must sum to 1"),
        ([{"part": 1.0}], {"only": ["car"]}, "only decides what learns too"),
        ([{"part": 1.0}], {"stopping": {}}, "stopping decides what learns too"),
        ([{"part": 0.0}, {"part": 1.0}], {}, "stages: part = 0.0 is out of range"),
        ([{"part": 1.0, "tasks": ["car", "car"]}], {}, "stages: tasks = .* is out of range"),
    ],
)
def test_stages_that_contradict_are_refused(stages: list[dict[str, Any]], more: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        staged(*stages, **more)


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ([{"part": 1.0, "tasks": ["boat"]}], "boat is no task of the plan"),
        ([{"part": 0.5}, {"part": 0.5, "tasks": ["boat"]}], "boat is no task of the plan"),
        ([{"part": 0.999}, {"part": 0.001}], "stage 2: its part of 20 batches holds none"),
    ],
)
def test_stages_that_do_not_fit_the_plan_are_refused(
    catalog: Catalog, plan: Plan, stages: list[dict[str, Any]], says: str
) -> None:
    made = staged(*stages)
    with pytest.raises(BadInput, match=says):
        Drawing(made, plan, catalog, Path(catalog.home / "runs" / run_id(plan, made)))
