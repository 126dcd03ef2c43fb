"""Trainings from draws: trees, states, and runs that end at the same bits wherever they were stopped."""

import hashlib
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.learned import make_features, planned, recipe

from curation import BadInput, Catalog
from curation.errors import Damaged
from samplers import Plan
from training import Recipe, Run, evaluate, train
from training.live_run import Stopped
from training.loop.drawing import Drawing
from training.network.model import load_any
from training.network.tree_network import TreeNetwork
from training.run import run_id

TREE = {"tasks": ["speed"], "branch": {"marks": {"width": 8, "tasks": ["*"]}, "own": {"width": 4, "tasks": ["car"]}}}
STOPPING = {"every": 4, "patience": 1, "floor": 0.5, "tolerance": 0.5}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_features(tmp_path_factory.mktemp("drawing"))


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> Plan:
    return planned(catalog, draws=960)


def weights_of(catalog: Catalog, run: Run) -> str:
    """The hash of a run's weights."""
    return hashlib.sha256((catalog.home / "runs" / run.id / "checkpoints" / "last.pt").read_bytes()).hexdigest()


def remove(catalog: Catalog, id_: str) -> None:
    for path in sorted((catalog.home / "runs" / id_).rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


FULL = recipe(
    tree=TREE, stopping=STOPPING, balance="gradient_norm", dropout=0.2, clip=0.5, seed=5, learning_rate=0.01,
    task={"car": {"rate": 0.5, "decay": 0.1}, "color": {"smoothing": 0.1, "dropout": 0.1}},
)  # fmt: skip


@pytest.fixture(scope="module")
def full(catalog: Catalog, plan: Plan) -> Run:
    return train(FULL, plan, catalog)


def test_a_tree_learns_and_is_evaluated(catalog: Catalog, plan: Plan) -> None:
    run = train(recipe(tree=TREE, learning_rate=0.02), plan, catalog)
    assert Run.open(catalog.home, run.id) == run
    assert isinstance(load_any(run, plan.tasks, catalog.home), TreeNetwork)
    figures = evaluate(run, catalog, author="ada").to_pylist()
    color = next(row for row in figures if (row["task"], row["slice"], row["split"]) == ("color", "", "test"))
    assert color["value"] > 0.7
    assert (run.alarm, sum(row["drawn"] for row in run.exposure(catalog.home) if row["kind"] == "task")) == ("", 960)


def test_a_run_records_states_course_and_gradients(catalog: Catalog, plan: Plan, full: Run) -> None:
    assert {row["task"] for row in full.states} == {task.name for task in plan.tasks}
    assert {"ACTIVE", "PLATEAU", "DISTILL"} <= {row["state"] for row in full.states}
    assert full.course[0] == (0, plan.hash)
    assert len(full.course) > 1
    assert Plan.newest(catalog.home).hash == plan.hash  # what a training derives is no baseline, and needs no sign-off
    assert all(start % 16 == 0 for start, _ in full.course)
    assert all(0.25 <= factor <= 4 for row in full.gradients for factor in row["factors"].values())
    assert full.alarm == ""
    drawn = {row["name"]: row["drawn"] for row in full.exposure(catalog.home) if row["kind"] == "task"}
    assert sum(drawn.values()) == full.curve[-1]["Draws"]
    assert [path.name for path in (catalog.home / "runs" / full.id / "checkpoints").iterdir()] == ["last.pt"]


class Killed(BaseException):
    """Ends a training in the middle of a step, as SIGKILL would."""


def test_killed_at_any_step_it_ends_at_the_same_bits(catalog: Catalog, plan: Plan, full: Run) -> None:
    wanted, steps = weights_of(catalog, full), int(full.curve[-1]["Draws"]) // 16
    begun = next(row["Draws"] // 16 for row in full.states if row["state"] == "DISTILL")
    replanned = full.course[1][0] // 16
    remove(catalog, full.id)
    for last in sorted({3, begun + 1, replanned, replanned + 2, steps - 2}):
        drawing = Drawing(FULL, plan, catalog, catalog.home / "runs" / full.id)

        def told(done: int, total: int, loss: float, last: int = last) -> None:
            if done // 16 > last:
                raise Killed

        with pytest.raises(Killed):
            drawing.run(told, every=1)
    again = train(FULL, plan, catalog)
    assert weights_of(catalog, again) == wanted
    assert replace(again, seconds=0.0) == replace(full, seconds=0.0)


def test_sigterm_leaves_a_checkpoint_and_one_line(catalog: Catalog, plan: Plan) -> None:
    made = recipe(tree=TREE, seed=8)
    id_ = run_id(plan, made)

    def told(done: int, total: int, loss: float) -> None:
        if done == 160:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match=r"^stopped after step 11 of 60; run the same again to go on$"):
        train(made, plan, catalog, progress=told)
    assert (catalog.home / "runs" / id_ / "checkpoints" / "resume.pt").is_file()
    assert not (catalog.home / "runs" / id_ / "run.json").exists()
    resumed = weights_of(catalog, train(made, plan, catalog))
    remove(catalog, id_)
    assert weights_of(catalog, train(made, plan, catalog)) == resumed


def test_a_damaged_checkpoint_is_one_line(catalog: Catalog, plan: Plan) -> None:
    made = recipe(tree=TREE, seed=9)
    path = catalog.home / "runs" / run_id(plan, made) / "checkpoints" / "resume.pt"
    path.parent.mkdir(parents=True)
    for content in (b"no checkpoint", b""):
        path.write_bytes(content)
        with pytest.raises(Damaged, match=r"resume.pt: cannot be read .*; remove it to train from the start"):
            train(made, plan, catalog)


def test_a_frozen_task_stays_frozen_until_it_has_new_labels(catalog: Catalog, plan: Plan, full: Run) -> None:
    ended = {name: dict(row, state="FROZEN") for name, row in full.ended.items()}
    path = catalog.home / "runs" / full.id / "run.json"
    kept = path.read_text()
    ended["bike"]["labels"] = "other"
    replace(full, ended=ended).save(catalog.home)
    try:
        drawing = Drawing(FULL, plan, catalog, catalog.home / "runs" / "child", parent=full.id)
    finally:
        path.write_text(kept)
    assert drawing.stops is not None
    states = {name: state.state for name, state in drawing.stops.states.items()}
    assert states == {"color": "FROZEN", "car": "FROZEN", "speed": "FROZEN", "bike": "ACTIVE"}


def test_non_finite_vectors_are_refused_by_key(catalog: Catalog, plan: Plan) -> None:
    drawing = Drawing(recipe(tree=TREE), plan, catalog, catalog.home / "runs" / "none")
    vectors = np.array(drawing.inputs.embeddings.vectors)  # type: ignore[union-attr]
    vectors[:, 2] = np.inf
    drawing.inputs.embeddings.vectors = vectors  # type: ignore[union-attr]
    with pytest.raises(BadInput, match=r"key 'pictures/\d+': its vector of .* is not finite"):
        drawing.run()


def test_a_recipe_for_a_task_that_the_plan_lacks_is_refused(catalog: Catalog, plan: Plan) -> None:
    with pytest.raises(BadInput, match="task boat is none of the plan's"):
        train(recipe(task={"boat": {"rate": 0.5}}), plan, catalog)


def test_pixels_learn_in_a_tree_that_leaves_the_trunk_early(catalog: Catalog) -> None:
    tree = {"tasks": ["*"], "branch": {"early": {"parent": "trunk:stage2", "width": 4, "tasks": ["car"]}}}
    made = Recipe.parse({"trunk": "small", "size": (32, 48), "global_batch": 16, "threads": 1, "tree": tree})
    run = train(made, planned(catalog, draws=64), catalog)
    assert len(evaluate(run, catalog, author="ada")) > 0


def test_a_trunk_of_ones_own_learns_from_pixels(catalog: Catalog) -> None:
    words = {"size": (32, 48), "global_batch": 16, "threads": 1}
    plan = planned(catalog, draws=32)
    own = train(Recipe.parse({"trunk": "support.learned:own_trunk"} | words), plan, catalog)
    assert load_any(own, plan.tasks, catalog.home).path(0)[:2] == ("trunk:stage1", "trunk:stage2")  # type: ignore
    for function, says in (("nosuch", "cannot be made"), ("no_trunk", "is int, must be a torch.nn.Module")):
        with pytest.raises(BadInput, match=says):
            train(Recipe.parse({"trunk": f"support.learned:{function}"} | words), plan, catalog)


def test_a_tree_starts_from_a_plain_run_by_name(catalog: Catalog, plan: Plan) -> None:
    plain = train(recipe(optimizer="adamw", learning_rate=0.01), plan, catalog)
    old = load_any(plain, plan.tasks, catalog.home)
    drawing = Drawing(recipe(tree="shared"), plan, catalog, catalog.home / "runs" / "none", parent=plain.id)
    assert isinstance(drawing.network, TreeNetwork)
    assert drawing.drawn.alarms == []
    keys = plan.keys.to_pylist()
    (inputs,) = drawing.inputs.of(keys)
    before, after = old(inputs), drawing.network.eval()(inputs)
    for code in range(len(plan.tasks)):
        columns = [network.losses.layout.columns[code] for network in (old, drawing.network)]
        assert torch.allclose(before[:, columns[0]], after[:, columns[1]], atol=1e-5)
