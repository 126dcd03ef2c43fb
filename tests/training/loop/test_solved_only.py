"""Heads of some tasks solved again: those learn, and everything else stays as it was, to the bit."""

from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from support.homes import copy_home, label, labels
from support.learned import planned, recipe
from support.queued import answer_colors, make_queued

from curation import BadInput, Catalog
from samplers import Plan
from training import Run, evaluate, train
from training.evaluation.learned_tasks import learned_tasks
from training.network.model import Network, load_network

EXACT = recipe(heads="exact", hidden=0)
SHARED = recipe(heads="shared", hidden=0, units=16, epochs=4)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_queued(tmp_path_factory.mktemp("only"))


@pytest.fixture
def catalog(template: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(template, tmp_path)


def again(catalog: Catalog, before: Run, *only: str) -> tuple[Plan, Run]:
    """A plan of the labels known now, and a run in which the heads of `only` were solved on it."""
    plan = planned(catalog)
    return plan, train(replace(before.recipe, only=only), plan, catalog, parent=before.id)


def outputs(run: Run, plan: Plan, catalog: Catalog) -> dict[str, torch.Tensor]:
    network = load_network(run, plan.tasks, catalog.home)
    inputs = torch.randn(64, 12, generator=torch.Generator().manual_seed(0))
    found = network(inputs)
    return {task.name: network.answers(found, code) for code, task in enumerate(plan.tasks)}


@pytest.mark.parametrize("made", [EXACT, SHARED], ids=["exact", "shared"])
def test_the_others_stay_and_the_head_is_that_of_the_new_labels(catalog: Catalog, made: object) -> None:
    assert made in (EXACT, SHARED)
    before = train(made, planned(catalog), catalog)  # type: ignore[arg-type]
    old = outputs(before, Plan.open(catalog.home, before.plan), catalog)
    answer_colors(catalog)
    plan, after = again(catalog, before, "color")
    new = outputs(after, plan, catalog)
    assert {name for name in new if not torch.equal(old[name], new[name])} == {"color"}
    heads = {head.task: head for head in after.heads}
    assert heads["color"].labels > {head.task: head for head in before.heads}["color"].labels
    assert heads["color"].kind == {"exact": "exact", "shared": "shared"}[before.recipe.heads]
    assert [heads[head.task] for head in before.heads if head.task != "color"] == [
        head for head in before.heads if head.task != "color"
    ]
    layers = [load_network(run, plan.tasks, catalog.home).branch.state_dict() for run in (before, after)]
    assert layers[0].keys() == layers[1].keys()
    assert all(torch.equal(layers[0][name], layers[1][name]) for name in layers[0])


def test_an_exact_head_is_that_of_a_training_of_all(catalog: Catalog) -> None:
    before = train(EXACT, planned(catalog), catalog)
    answer_colors(catalog)
    plan, after = again(catalog, before, "color")
    whole = train(EXACT, plan, catalog)
    network, other = (load_network(run, plan.tasks, catalog.home) for run in (after, whole))
    rows = network.losses.layout.columns[next(code for code, task in enumerate(plan.tasks) if task.name == "color")]
    assert torch.allclose(network.heads.weight[rows], other.heads.weight[rows], atol=1e-5)


def test_a_run_of_some_heads_is_continued(catalog: Catalog) -> None:
    before = train(EXACT, planned(catalog), catalog)
    answer_colors(catalog)
    _, first = again(catalog, before, "color")
    evaluate(first, catalog, author="ada")
    plan, second = again(catalog, first, "car", "speed")
    assert second.parent == first.id
    old, new = outputs(first, plan, catalog), outputs(second, plan, catalog)
    assert torch.equal(old["color"], new["color"])


def test_numbers_of_other_tasks_keep_their_unit(catalog: Catalog) -> None:
    """A plan of more labels standardises numbers otherwise; a head that stays speaks in the old scale."""
    before = train(EXACT, planned(catalog), catalog)
    with catalog.commit(author="bob", message="gone") as change:
        trained = set(change.now.training_ids().tolist())
        speeds = {row["sample_id"] for row in change.now.labels("speed").to_pylist()} & trained
        keys = [row["key"] for row in change.now.samples().to_pylist() if row["sample_id"] in speeds]
        rows = [label(key, "speed", None, "bob") for key in keys[: len(keys) // 2]]
        change.add_labels(labels(rows), source="human")
    plan, after = again(catalog, before, "car")
    theirs = Plan.open(catalog.home, before.plan)
    means = [next(task.mean for task in each.tasks if task.name == "speed") for each in (theirs, plan)]
    assert means[0] != means[1]
    assert torch.equal(outputs(before, theirs, catalog)["speed"], outputs(after, plan, catalog)["speed"])


@pytest.mark.parametrize(
    ("changed", "parent", "says"),
    [
        ({"only": ("boat",)}, True, "only boat: is no task of the plan"),
        ({"only": ("car",)}, False, "only car: has no run to start from; name one with --parent"),
        ({"only": ("car",), "seed": 9}, True, "only car: run .* was learned by another recipe"),
    ],
)
def test_what_does_not_fit_is_one_line(catalog: Catalog, changed: dict[str, object], parent: bool, says: str) -> None:
    plan = planned(catalog)
    before = train(EXACT, plan, catalog)
    with pytest.raises(BadInput, match=says):
        train(replace(EXACT, **changed), plan, catalog, parent=before.id if parent else "")  # type: ignore[arg-type]


def test_a_plan_without_a_head_that_must_stay_is_refused(catalog: Catalog) -> None:
    before = train(EXACT, planned(catalog), catalog)
    with catalog.commit(author="ada", message="another") as change:
        task = change.now.task("color").model_copy(update={"classes": ("red", "yellow")})
        change.redefine_task(task, {"green": None})
    plan = planned(catalog)
    with pytest.raises(BadInput, match=r"color: class green of before is left out; name that task in `only` too"):
        train(replace(EXACT, only=("car",)), plan, catalog, parent=before.id)
    found = train(replace(EXACT, only=("color",)), plan, catalog, parent=before.id)
    assert isinstance(load_network(found, plan.tasks, catalog.home), Network)


def test_labels_that_came_since_do_not_move_what_a_head_predicts(catalog: Catalog) -> None:
    """Natural probabilities follow from the labels that a head learned from, not from those of the plan beside it."""
    before = train(EXACT, planned(catalog), catalog)
    evaluate(before, catalog, author="ada")
    answer_colors(catalog)
    _, after = again(catalog, before, "car")
    evaluate(after, catalog, author="ada")
    old, new = (pq.read_table(catalog.home / "runs" / run.id / "predictions.parquet") for run in (before, after))
    colors = [table.filter(pc.equal(table["task"], "color")) for table in (old, new)]
    assert colors[0].equals(colors[1])
    learned = {part.task.name: part for part in learned_tasks(catalog.home, after)}
    assert {name: part.plan.hash for name, part in learned.items()} == {
        name: after.plan if name == "car" else before.plan for name in learned
    }
