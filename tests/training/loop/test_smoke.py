"""Heads of every kind on two batches of their own labels, and the verb that checks them."""

import numpy as np
import pytest
from support.learned import make_features, planned, recipe

from curation import Catalog
from curation.images.embeddings import Embeddings
from samplers import Plan
from training import Recipe
from training.loop.smoke import SmokeHead, smoke


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_features(tmp_path_factory.mktemp("smoke"), width=64)


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> Plan:
    return planned(catalog, draws=64)


KINDS: dict[str, dict[str, object]] = {
    "exact": {"heads": "exact", "hidden": 0}, "shared": {"heads": "shared", "hidden": 0},
    "plain": {"hidden": 32, "optimizer": "adamw", "learning_rate": 0.01},
    "a tree": {"tree": "shared", "hidden": 32, "dropout": 0.3, "learning_rate": 0.01},
    "separate": {"tree": "separate", "hidden": 32, "learning_rate": 0.01},
}  # fmt: skip


@pytest.mark.parametrize("words", KINDS.values(), ids=KINDS)
def test_heads_of_every_kind_fit_two_batches(catalog: Catalog, plan: Plan, words: dict[str, object]) -> None:
    heads = smoke(recipe(**words), plan, catalog)
    assert [head.task for head in heads] == [task.name for task in plan.tasks]
    assert all(head.fits for head in heads), heads
    assert all(head.labels <= 32 for head in heads)
    assert not (catalog.home / "runs").exists()


def test_auto_checks_both_kinds(catalog: Catalog, plan: Plan) -> None:
    heads = smoke(recipe(heads="auto", hidden=0), plan, catalog)
    assert [head.kind for head in heads] == ["exact"] * 4 + ["shared"] * 4


def test_a_head_that_cannot_learn_is_named(catalog: Catalog, plan: Plan) -> None:
    heads = smoke(recipe(tree="separate", hidden=32, learning_rate=0.01, task={"car": {"rate": 0.0}}), plan, catalog)
    assert [head.task for head in heads if not head.fits] == ["car"]


def test_labels_that_contradict_each_other_fit_no_head(
    catalog: Catalog, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = lambda self, keys: np.zeros((len(keys), 64), np.float16)  # noqa: E731 - every image looks alike
    monkeypatch.setattr(Embeddings, "of", flat)
    heads = smoke(recipe(heads="exact", hidden=0), plan, catalog)
    assert not any(head.fits for head in heads)


def test_pixels_are_fitted_without_features(catalog: Catalog, plan: Plan) -> None:
    made = Recipe.parse({"trunk": "small", "size": (32, 32), "threads": 1, "hidden": 32})
    assert [head.kind for head in smoke(made, plan, catalog)] == ["drawn"] * 4


def test_a_pretrained_trunk_sees_the_chosen_images_alone(catalog: Catalog, plan: Plan) -> None:
    before = sorted(path.name for path in (catalog.home / "embeddings").iterdir())
    heads = smoke(Recipe(size=(32, 64), heads="exact", threads=1), plan, catalog)
    assert len(heads) == 4
    assert sorted(path.name for path in (catalog.home / "embeddings").iterdir()) == before


def test_fits_is_a_part_of_the_constant() -> None:
    assert SmokeHead(task="car", kind="exact", labels=32, loss=0.1).fits
    assert not SmokeHead(task="car", kind="exact", labels=32, loss=0.11).fits
