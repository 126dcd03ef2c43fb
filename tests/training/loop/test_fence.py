"""Runs of some tasks only: the others' outputs do not move by a bit, or the run does not end."""

from dataclasses import replace

import pytest
import torch
from support.learned import make_features, planned, recipe

from curation import BadInput, Catalog
from curation.errors import Failed
from samplers import Plan
from training import Run, train
from training.loop.drawing import Drawing
from training.network.model import load_any
from training.run import run_id

TREE = {"branch": {"marks": {"width": 8, "tasks": ["*"]}, "own": {"width": 4, "tasks": ["car"]}}}
MADE = recipe(tree=TREE, learning_rate=0.02)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_features(tmp_path_factory.mktemp("fence"))


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> Plan:
    return planned(catalog, draws=320)


@pytest.fixture(scope="module")
def run(catalog: Catalog, plan: Plan) -> Run:
    return train(MADE, plan, catalog)


@pytest.mark.parametrize("only", [("car",), ("color",), ("bike", "speed")])
def test_the_others_do_not_move(catalog: Catalog, plan: Plan, run: Run, only: tuple[str, ...]) -> None:
    fenced = train(replace(MADE, only=only), plan, catalog, parent=run.id)
    before, after = (load_any(each, plan.tasks, catalog.home) for each in (run, fenced))
    inputs = torch.randn(64, 12)
    first, second = before(inputs), after(inputs)
    for code, task in enumerate(plan.tasks):
        columns = before.losses.layout.columns[code]
        assert torch.equal(first[:, columns], second[:, columns]) == (task.name not in only)
    drawn = {row["name"]: row["drawn"] for row in fenced.exposure(catalog.home) if row["kind"] == "task"}
    assert set(drawn) == set(only)
    assert sum(drawn.values()) <= 320 * len(only) / 4
    assert (fenced.alarm, fenced.parent) == ("", run.id)
    assert Plan.newest(catalog.home).hash == plan.hash


def test_a_plain_run_is_continued_for_one_task(catalog: Catalog, plan: Plan) -> None:
    plain = recipe(optimizer="adamw", learning_rate=0.02)
    before = train(plain, plan, catalog)
    fenced = train(replace(plain, only=("speed",)), plan, catalog, parent=before.id)
    old, new = (load_any(each, plan.tasks, catalog.home) for each in (before, fenced))
    assert torch.equal(old.branch[0].weight, new.branches["shared"][0].weight)  # type: ignore[union-attr, index]


def test_a_run_that_moves_another_task_does_not_end(catalog: Catalog, plan: Plan, run: Run) -> None:
    made = replace(MADE, only=("car",), seed=4)
    drawing = Drawing(made, plan, catalog, catalog.home / "runs" / run_id(plan, made, run.id), parent=run.id)
    with torch.no_grad():
        next(drawing.network.trunk.parameters(), drawing.network.branches["marks"][0].weight).add_(1e-3)  # type: ignore
    with pytest.raises(Failed, match=r"marks.0.weight: moved, .*the run is not written"):
        drawing.run()


@pytest.mark.parametrize(
    ("changed", "parent", "says"),
    [
        ({"only": ("boat",)}, True, "only boat: is no task of the plan"),
        ({"only": ("car",)}, False, "only car: has no run to start from"),
        ({"only": ("car",), "stopping": {"every": 2}}, True, "only car: stops no task"),
        ({"only": ("car",), "tree": "shared"}, True, "branch shared: run .* has none like it"),
    ],
)
def test_what_does_not_fit_is_one_line(
    catalog: Catalog, plan: Plan, run: Run, changed: dict[str, object], parent: bool, says: str
) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        train(recipe(**{"tree": TREE} | changed), plan, catalog, parent=run.id if parent else "")
    assert "\n" not in str(caught.value)
