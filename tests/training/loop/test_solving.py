"""Runs whose heads are solved: what they record, where they start, and what they refuse."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.homes import make_home

from curation import BadInput, Catalog
from curation.files.read_back import sha256_of
from samplers import Plan, Policy, make_pack
from samplers.plan.build import draft_plan
from training import Recipe, Run, evaluate, train
from training.evaluation.features import embed
from training.network.model import load_network

RECIPE = Recipe.of("efficientnet_lite0", size=(32, 32), threads=1)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    made = make_home(tmp_path_factory.mktemp("solving"), samples=120)
    embed(made.home, make_pack(made), RECIPE)
    return made


def planned(catalog: Catalog, **changed: float) -> Plan:
    """A plan over all labelled tasks; `changed` are shares and importances of `car`, taken from the others evenly."""
    with catalog.read() as now:
        policy = Policy.for_labelled(now).model_dump()
    for field, value in changed.items():
        for name, task in policy["task"].items():
            task[field] = value if name == "car" else (1 - value) / (len(policy["task"]) - 1)
    return draft_plan(catalog, Policy.model_validate(policy), make_pack(catalog), draws=128).save()


@pytest.fixture(scope="module")
def run(catalog: Catalog) -> Run:
    return train(RECIPE, planned(catalog), catalog)


def test_a_solved_run_records_its_heads_and_consumes_no_draws(catalog: Catalog, run: Run) -> None:
    opened = Run.open(catalog.home, run.id)
    assert opened == run
    assert [head.kind for head in run.heads] == ["exact"] * 4
    assert all(head.gradient < 1e-6 and head.iterations and head.path for head in run.heads)
    assert (run.curve, run.exposure(catalog.home), run.alarm) == ([], [], "")


def test_it_predicts_what_it_learned(catalog: Catalog, run: Run) -> None:
    figures = evaluate(run, catalog, author="ada").to_pylist()
    color = next(row for row in figures if (row["task"], row["slice"], row["split"]) == ("color", "", "test"))
    assert color["value"] > 0.9


def test_alarms_name_the_tasks_that_pixels_say_nothing_of(run: Run) -> None:
    assert {alarm.split(":")[0] for alarm in run.alarms} >= {"car"}  # drawn by a coin in these pictures
    assert not any(alarm.startswith("color:") for alarm in run.alarms)


@pytest.mark.parametrize("changed", [{"share": 0.7}, {"importance": 0.7}])
def test_share_and_importance_of_another_task_move_no_bit(
    catalog: Catalog, run: Run, changed: dict[str, float]
) -> None:
    other = train(RECIPE, planned(catalog, **changed), catalog)
    assert other.id != run.id
    first, second = (load_network(each, planned(catalog).tasks, catalog.home).heads for each in (run, other))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


def test_a_warm_run_has_an_id_of_its_own_and_the_same_heads(catalog: Catalog, run: Run) -> None:
    warm = train(RECIPE, planned(catalog), catalog, parent=run.id)
    assert (warm.parent, warm.id != run.id) == (run.id, True)
    assert [head.ridge for head in warm.heads] == [head.ridge for head in run.heads]
    first, second = (
        load_network(each, planned(catalog).tasks, catalog.home).heads.weight.detach() for each in (run, warm)
    )
    assert float((first - second).abs().max()) < 1e-6


def test_draws_train_linear_heads_where_they_are_asked_to(catalog: Catalog) -> None:
    drawn = train(replace(RECIPE, heads="drawn"), planned(catalog), catalog)
    assert (drawn.heads, bool(drawn.curve), bool(drawn.exposure(catalog.home))) == ([], True, True)


def test_a_run_that_names_no_heads_was_drawn(catalog: Catalog, tmp_path: Path) -> None:
    drawn = train(replace(RECIPE, heads="drawn"), planned(catalog), catalog)
    folder = tmp_path / "runs" / drawn.id
    shutil.copytree(catalog.home / "runs" / drawn.id, folder)
    record = json.loads((folder / "run.json").read_text())
    del record["digest"], record["recipe"]["heads"]
    (folder / "run.json").write_text(json.dumps(record))
    assert Run.open(tmp_path, drawn.id).recipe.heads == "drawn"


def test_a_vector_that_is_not_finite_is_refused_by_its_key(catalog: Catalog) -> None:
    plan = planned(catalog)
    path = catalog.home / "embeddings" / RECIPE.embeddings / "vectors.npy"
    header = path.with_name("embeddings.json")
    kept, kept_header = path.read_bytes(), header.read_text()
    vectors = np.load(path, mmap_mode="r+")
    vectors[:, 3] = np.nan
    vectors.flush()
    described = json.loads(kept_header)
    described["sha256"]["vectors.npy"] = sha256_of(path)
    header.write_text(json.dumps(described))
    try:
        with pytest.raises(BadInput, match=r"key 'pictures/\d+': its vector of efficientnet_lite0-32x32 is not finite"):
            train(replace(RECIPE, seed=7), plan, catalog)
    finally:
        path.write_bytes(kept)
        header.write_text(kept_header)


def test_a_shared_layer_is_saved_with_the_run_and_predicts_beside_exact_heads(catalog: Catalog) -> None:
    shared = train(replace(RECIPE, heads="shared", units=8, epochs=1), planned(catalog), catalog)
    assert {head.kind for head in shared.heads} == {"shared"}
    network = load_network(shared, planned(catalog).tasks, catalog.home)
    assert network.heads.in_features == network.width + shared.shared_units
    assert not network.heads.weight[:, : network.width].any()
    figures = evaluate(shared, catalog, author="ada").to_pylist()
    assert next(row["value"] for row in figures if (row["task"], row["split"]) == ("color", "test")) > 0.8
