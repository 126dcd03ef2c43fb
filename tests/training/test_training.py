"""What the network learns from: losses, gradients, probabilities, figures, and the same weights every time."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.homes import make_home

from curation import BadInput, Catalog, NotFound, Task
from curation.errors import Damaged
from curation.images.embeddings import Embeddings
from samplers import Plan, Policy, make_pack, make_plan
from samplers.plan.plan import PlanTask
from training import Recipe, Run, evaluate, train
from training.evaluation.evaluation import natural_probabilities
from training.evaluation.features import embed
from training.network.losses import TaskLosses
from training.network.model import Network, load_network
from training.network.trunks import load_frozen

KINDS = {"car": "binary", "color": "categorical", "speed": "regression", "dusk": "binary", "sign": "categorical"}
CLASSES = {"color": ("red", "yellow", "green"), "sign": ("a", "b")}


def plan_task(name: str, **more: object) -> PlanTask:
    kind = KINDS[name]
    task = Task.model_validate(
        {"name": name, "kind": kind, "classes": CLASSES.get(name, ()), "owner": "ada"}
        | ({"unit": "m", "metric": "mae"} if kind == "regression" else {})
    )
    fields = {"share": 1, "importance": 0.2, "constant_loss": 1.0, "mean": 0.0, "deviation": 1.0, "labelled": ()}
    rest = {"owner": "ada", "rule": "natural", "class_factor": None, "strata": ()}
    return PlanTask(**{"task": task, **fields, **rest, **more})


TASKS = [plan_task(name) for name in KINDS]


def batch(seed: int, size: int = 16) -> tuple[torch.Tensor, ...]:
    """Outputs, values, known and weights for TASKS."""
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(size, 8, generator=generator)
    values = torch.stack([torch.randint(0, 2, (size,), generator=generator).float() for _ in TASKS], dim=1)
    known = torch.rand(size, len(TASKS), generator=generator) < 0.5
    return outputs, values, known, torch.rand(size, len(TASKS), generator=generator) * known


def test_losses_by_hand() -> None:
    losses = TaskLosses([plan_task("car", constant_loss=0.5), plan_task("speed", mean=10.0, deviation=4.0)])
    outputs = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    values, known = torch.tensor([[1.0, 18.0], [0.0, 0.0]]), torch.tensor([[True, True], [True, False]])
    weights = torch.tensor([[2.0, 1.0], [1.0, 0.0]])
    found = losses(outputs, values, known, weights)
    assert found.tolist() == pytest.approx([3 * np.log(2) / 2 / 0.5, 0.5 * 1 / 2])
    assert float(losses.objective(found)) == pytest.approx(0.2 * float(found.sum()))


def test_categorical_losses_of_different_widths_are_those_of_torch() -> None:
    outputs, values, known, weights = batch(0)
    losses = TaskLosses(TASKS)
    found = losses(outputs, values, known, weights)
    for code in (1, 4):
        logits = outputs[:, losses.layout.columns[code]]
        each = torch.nn.functional.cross_entropy(logits, values[:, code].long(), reduction="none")
        assert float(found[code]) == pytest.approx(float((each * weights[:, code]).mean()), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999))
def test_unknown_labels_change_nothing(seed: int) -> None:
    outputs, values, known, weights = batch(seed)
    losses = TaskLosses(TASKS)
    other = torch.where(known, values, 1 - values)
    assert torch.equal(losses(outputs, values, known, weights), losses(outputs, other, known, weights))
    outputs.requires_grad_()
    losses(outputs, other, known, torch.ones_like(weights)).sum().backward()
    assert outputs.grad is not None
    for code, columns in losses.layout.columns.items():
        assert not outputs.grad[~known[:, code], columns].any()
        assert outputs.grad[known[:, code], columns].any() or not known[:, code].any()


def test_a_label_counts_in_proportion_to_its_weight() -> None:
    outputs, values, known, weights = batch(2)
    losses = TaskLosses(TASKS)
    single = losses(outputs, values, known, weights)
    assert losses(outputs, values, known, 3 * weights).tolist() == pytest.approx((3 * single).tolist(), rel=1e-5)
    # padding and unknown samples dilute: the mean is over the draws, not over what is known
    padded = [torch.cat([part, torch.zeros_like(part)]) for part in (outputs, values, known, weights)]
    assert losses(*padded).tolist() == pytest.approx((single / 2).tolist(), rel=1e-5)


def test_objective_weighs_by_importance() -> None:
    losses = TaskLosses([plan_task("car", importance=0.75), plan_task("dusk", importance=0.25)])
    assert float(losses.objective(torch.tensor([1.0, 3.0]))) == pytest.approx(1.5)


def test_regression_is_standardised() -> None:
    unit = [TaskLosses([plan_task("speed", mean=mean, deviation=deviation)]) for mean, deviation in ((0, 1), (50, 20))]
    values, known = torch.tensor([[1.5], [-0.5]]), torch.ones(2, 1, dtype=torch.bool)
    outputs, weights = torch.tensor([[0.3], [0.1]]), torch.ones(2, 1)
    plain, shifted = unit[0](outputs, values, known, weights), unit[1](outputs, 50 + 20 * values, known, weights)
    assert float(shifted) == pytest.approx(float(plain), rel=1e-5)


@pytest.mark.parametrize("code", range(len(TASKS)))
def test_a_gradient_touches_only_its_own_path(code: int) -> None:
    network = Network(torch.nn.Identity(), 6, 4, TASKS)
    torch.nn.init.normal_(network.heads.weight)
    _, values, known, weights = batch(3)
    network.losses(network(torch.randn(16, 6)), values, known, weights)[code].backward()
    rows = network.losses.layout.columns[code]
    for parameter in network.heads.parameters():
        assert parameter.grad is not None
        others = parameter.grad.clone()
        assert others[rows].any()
        others[rows] = 0
        assert not others.any()


@pytest.mark.parametrize("code", range(len(TASKS)))
def test_a_loss_touches_only_its_own_outputs(code: int) -> None:
    outputs, values, known, weights = batch(1)
    losses = TaskLosses(TASKS)
    outputs.requires_grad_()
    losses(outputs, values, known, weights)[code].backward()
    assert outputs.grad is not None
    touched = outputs.grad.abs().sum(dim=0) > 0
    own = torch.zeros(8, dtype=torch.bool)
    own[losses.layout.columns[code]] = True
    assert torch.equal(touched, own)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999))
def test_natural_probabilities_undo_the_shift(seed: int) -> None:
    generator = np.random.default_rng(seed)
    prior, target = generator.dirichlet(np.ones(3) * 3, 2)
    labelled = generator.integers(5, 50, 3)
    natural = generator.dirichlet(np.ones(3), 20)
    shifted = natural * target / prior
    task = plan_task("color", labelled=tuple(labelled), class_factor=tuple(target / labelled))
    found = natural_probabilities(task, shifted / shifted.sum(axis=1, keepdims=True), prior)
    assert found == pytest.approx(natural)


def test_a_class_without_labels_is_never_predicted() -> None:
    task = plan_task("color", labelled=(5, 0, 5), class_factor=(0.1, 0.0, 0.1))
    found = natural_probabilities(task, np.array([[0.2, 0.4, 0.4]]), np.array([0.5, 0.1, 0.4]))
    assert found == pytest.approx(np.array([[0.1, 0, 0.16]]) / 0.26)


def test_probabilities_stay_where_rates_do_not_factor() -> None:
    answers = np.array([[0.2, 0.3, 0.5]])
    assert natural_probabilities(plan_task("color"), answers, np.ones(3) / 3) is answers


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("training"), samples=160)


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> Plan:
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    return make_plan(catalog, policy, make_pack(catalog), draws=14400)


SMALL = Recipe.of("small", size=(32, 48), global_batch=32, hidden=16, augment=False, threads=1)


@pytest.fixture(scope="module")
def run(catalog: Catalog, plan: Plan) -> Run:
    return train(SMALL, plan, catalog)


def test_a_network_learns_colours_from_pixels(catalog: Catalog, run: Run) -> None:
    figures = {(row["task"], row["slice"]): row for row in evaluate(run, catalog, author="ada").to_pylist()
               if row["split"] == "test"}  # fmt: skip
    assert figures["color", ""]["value"] > 0.9
    assert run.curve[-1]["color"] < 0.5 < run.curve[0]["color"]


def test_the_same_training_is_done_once_and_gives_the_same_weights(catalog: Catalog) -> None:
    with catalog.read() as now:
        plan = make_plan(catalog, Policy.for_labelled(now), make_pack(catalog), draws=256)
    recipe = replace(SMALL, augment=True)
    run = train(recipe, plan, catalog)
    first = load_network(run, plan.tasks, catalog.home).state_dict()
    assert train(recipe, plan, catalog, progress=lambda done, total, loss: pytest.fail("trained again")) == run
    (catalog.home / "runs" / run.id / "run.json").unlink()
    again = train(recipe, plan, catalog)
    second = load_network(again, plan.tasks, catalog.home).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again.id == run.id
    assert Run.open(catalog.home, run.id).recipe == recipe
    other = train(replace(recipe, seed=1), plan, catalog)
    third = load_network(other, plan.tasks, catalog.home).state_dict()
    assert not torch.equal(first["heads.weight"], third["heads.weight"])


def test_a_run_keeps_what_it_was_trained_on(catalog: Catalog, plan: Plan, run: Run) -> None:
    drawn = {row["name"]: row["drawn"] for row in run.exposure(catalog.home) if row["kind"] == "stratum"}
    assert drawn == {f"{row['task']}: {row['stratum']}": row["drawn"] for row in plan.rates()}
    assert (sum(drawn.values()), run.alarm) == (14400, "")


def test_evaluation_records_what_it_found(catalog: Catalog, run: Run) -> None:
    evaluate(run, catalog, author="ada")
    with catalog.read() as now:
        before = now.counts()
        (row,) = [row for row in now.runs().to_pylist() if row["run"] == run.id]
        predictions = pq.read_table(catalog.home / row["predictions"])
        assert len(predictions) == len(now.samples()) * len(KINDS_OF_HOME)
        chances = predictions.filter(pa.compute.is_valid(predictions["code"]))["probabilities"].to_pylist()
        assert all(abs(sum(row) - 1) < 1e-9 for row in chances)
    evaluate(run, catalog, author="ada")
    with catalog.read() as now:
        assert now.counts() == before


KINDS_OF_HOME = ("color", "car", "bike", "speed")


def test_figures_weigh_by_propensity(catalog: Catalog, run: Run) -> None:
    evaluate(run, catalog, author="ada")
    with catalog.commit(author="ada", message="propensity") as change:
        keys = change.now.samples()["key"].to_pylist()
        change.add_attributes(pa.table({"key": keys, "propensity": np.linspace(0.05, 1, len(keys))}))
    figures = evaluate(run, catalog, author="ada", batch="weighed").to_pylist()
    with catalog.read() as now:
        samples = {row["sample_id"]: row for row in now.samples().to_pylist()}
        truth = {row["sample_id"]: row["number"] for row in now.labels("speed").to_pylist()}
        chance = {row["sample_id"]: row["value"] for row in now.attribute("propensity").to_pylist()}
        predicted = pq.read_table(catalog.home / now.runs()["predictions"][0].as_py()).to_pylist()
    speeds = {row["key"]: row["number"] for row in predicted if row["task"] == "speed"}
    test = [id_ for id_ in truth if samples[id_]["split"] == "test"]
    errors = [abs(truth[id_] - speeds[samples[id_]["key"]]) for id_ in test]
    row = next(row for row in figures if (row["task"], row["slice"], row["split"]) == ("speed", "", "test"))
    assert row["value"] == pytest.approx(np.average(errors, weights=[1 / chance[id_] for id_ in test]))


def test_figures_of_shares_weigh_and_count_groups(catalog: Catalog, run: Run) -> None:
    with catalog.commit(author="ada", message="propensity") as change:
        keys = change.now.samples()["key"].to_pylist()
        chance = dict(zip(keys, np.linspace(0.05, 1, len(keys)).tolist(), strict=True))
        change.add_attributes(pa.table({"key": keys, "propensity": list(chance.values())}))
    figures = evaluate(run, catalog, author="ada", batch="shares").to_pylist()
    predictions = pq.read_table(catalog.home / "runs" / run.id / "predictions.parquet").to_pylist()
    said = {row["key"]: row["code"] for row in predictions if row["task"] == "car"}
    with catalog.read() as now:
        samples = {row["sample_id"]: row for row in now.samples().to_pylist() if row["split"] == "test"}
        dark = {row["sample_id"] for row in now.attribute("night").to_pylist() if row["value"]}
        truth = {row["sample_id"]: row["code"] for row in now.labels("car").to_pylist() if row["sample_id"] in samples}
        recorded = now.runs.slice_errors(run.id).to_pylist()
    assert {tuple(row.values()) for row in recorded} == {tuple(row.values())[1:] for row in figures}
    for name, ids in {"": set(truth), "night": set(truth) & dark}.items():
        right = [said[samples[id_]["key"]] == truth[id_] for id_ in ids]
        row = next(row for row in figures if (row["task"], row["slice"], row["split"]) == ("car", name, "test"))
        weights = [1 / chance[samples[id_]["key"]] for id_ in ids]
        assert row["value"] == pytest.approx(np.average(right, weights=weights))
        assert (row["n"], row["groups"]) == (len(ids), len({samples[id_]["group"] for id_ in ids}))


def test_slices_over_predictions_are_those_of_the_run(catalog: Catalog, run: Run) -> None:
    with catalog.commit(author="ada", message="slice") as change:
        change.add_slice("says_red", "pred.color.value = 'red'")
    figures = evaluate(run, catalog, author="ada", batch="sliced").to_pylist()
    rows = {row["task"]: row for row in figures if (row["slice"], row["split"]) == ("says_red", "test")}
    assert set(rows) == set(KINDS_OF_HOME)
    assert rows["color"]["n"] > 0


def test_heads_on_a_frozen_run(catalog: Catalog, plan: Plan, run: Run) -> None:
    recipe = Recipe(trunk=f"run:{run.id}", size=SMALL.size, global_batch=32, threads=1)
    features = embed(catalog.home, make_pack(catalog), recipe)
    assert features is not None
    assert [name for name, _ in features.blocks] == ["trunk", "branch"]
    heads = train(recipe, plan, catalog)
    value = next(row for row in evaluate(heads, catalog, author="ada").to_pylist() if row["split"] == "test")["value"]
    assert value > 0.8


def test_a_run_starts_from_another(catalog: Catalog, plan: Plan, run: Run) -> None:
    later = train(SMALL, plan, catalog, parent=run.id)
    assert later.parent == run.id
    assert later.id != run.id
    assert later.curve[0]["color"] < run.curve[0]["color"]


def test_a_parent_of_another_shape_is_refused(catalog: Catalog, plan: Plan, run: Run) -> None:
    with pytest.raises(BadInput, match=f"run {run.id}: has another trunk or branch"):
        train(replace(SMALL, hidden=8), plan, catalog, parent=run.id)


def test_training_leaves_frozen_features_alone(catalog: Catalog, plan: Plan, run: Run) -> None:
    recipe = Recipe(trunk=f"run:{run.id}", size=SMALL.size, heads="drawn", global_batch=32, hidden=4, threads=1)
    pack = make_pack(catalog)
    features = embed(catalog.home, pack, recipe)
    assert features is not None
    before = np.array(features.vectors)
    heads = load_network(train(recipe, plan, catalog), plan.tasks, catalog.home)
    assert np.array_equal(Embeddings.open(catalog.home, recipe.embeddings).vectors, before)
    assert torch.equal(heads.state_dict()["trunk.mean"], torch.from_numpy(features.mean))
    assert not list(heads.trunk.parameters())


def test_frozen_features_do_not_depend_on_the_batch() -> None:
    trunk = load_frozen("efficientnet_lite0")
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (4, 3, 64, 64), dtype=np.uint8))
    together = trunk.features(images)
    alone = torch.cat([trunk.features(images[i : i + 1]) for i in range(4)])
    assert together.shape == (4, trunk.width)
    assert torch.allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize(
    "field",
    [
        {"learning_rate": 0.0}, {"learning_rate": float("nan")}, {"learning_rate": float("inf")}, {"global_batch": 0},
        {"size": (16, 16)}, {"optimizer": "magic"}, {"trunk": "vgg"}, {"schedule": "linear"}, {"weight_decay": -0.1},
        {"warmup": 1.0}, {"hidden": -1}, {"threads": 0}, {"heads": "magic"}, {"fit": "pad"}, {"epochs": 0},
        {"units": 0}, {"hidden": 4}, {"trunk": "small"}, {"trunk": "small", "heads": "drawn", "fit": "crop"},
    ],
)  # fmt: skip
def test_recipes_out_of_range(field: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=rf"\b{list(field)[-1]}\b") as caught:
        Recipe(**field)
    assert "\n" not in str(caught.value)


def test_a_plan_shorter_than_a_batch(catalog: Catalog) -> None:
    with catalog.read() as now:
        plan = make_plan(catalog, Policy.for_labelled(now), make_pack(catalog), draws=20)
    with pytest.raises(BadInput, match="plan of 20 draws: holds no batch of 32"):
        train(SMALL, plan, catalog)


def test_a_plan_with_another_table_is_refused(catalog: Catalog) -> None:
    with catalog.read() as now:
        policy, pack = Policy.for_labelled(now), make_pack(catalog)
    one, other = (make_plan(catalog, policy, pack, draws=draws) for draws in (64, 65))
    shutil.copy(other.folder / "draws.parquet", one.folder / "draws.parquet")
    with pytest.raises(Damaged, match=r"draws\.parquet: not the table"):
        train(SMALL, Plan(one.folder), catalog)


def test_unknown_runs(catalog: Catalog) -> None:
    with pytest.raises(NotFound, match="run 'nosuch'"):
        Run.open(catalog.home, "nosuch")
    with pytest.raises(BadInput, match="not frozen"):
        load_frozen("nosuch")
