"""Short runs: the same training twice is one result, halves share no group, and nothing stays in the workspace."""

import numpy as np
import pyarrow as pa
import pytest
from support.learned import make_features, planned, recipe

from curation import BadInput, Catalog
from training.dynamics.short_runs import DIVERGED, ShortRuns, mean_score
from training.dynamics.task_similarity import task_similarity
from training.evaluation.halves import halves
from training.evaluation.predictions import Samples

RECIPE = recipe(tree="shared", learning_rate=0.02)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_features(tmp_path_factory.mktemp("short"))


@pytest.fixture(scope="module")
def runs(catalog: Catalog) -> ShortRuns:
    return ShortRuns(catalog, planned(catalog, draws=320))


def test_halves_are_whole_groups_of_the_split(catalog: Catalog) -> None:
    with catalog.read() as now:
        samples = Samples.at(now)
    one, two = halves(samples, "validation")
    assert not (one & two).any()
    assert np.array_equal(one | two, samples.splits == "validation")
    assert not set(samples.groups[one]) & set(samples.groups[two])
    assert abs(len(set(samples.groups[one])) - len(set(samples.groups[two]))) <= 1


def test_a_training_is_a_function_of_its_recipe_and_part(runs: ShortRuns) -> None:
    own = {task.name: task.importance for task in runs.plan.tasks}
    first = runs.train(RECIPE, 0.25).losses
    np.testing.assert_array_equal(runs.train(RECIPE, 0.25, importances=own).losses, first)
    moved = runs.train(RECIPE, 0.25, importances={**own, "color": 0.9}).losses
    assert not np.array_equal(moved, first, equal_nan=True)
    assert not list(runs.catalog.home.glob("runs/*"))


def test_more_draws_learn_more(runs: ShortRuns) -> None:
    whole, part = (runs.values([runs.train(RECIPE, share).losses], runs.choosing) for share in (1.0, 0.05))
    assert mean_score(whole) > mean_score(part)
    assert len(whole) == len(runs.judged(runs.choosing))


def test_a_training_that_diverges_counts_as_a_loss(runs: ShortRuns) -> None:
    for part in (1.0, 0.05):  # at its second step, and after its only one
        losses = runs.train(recipe(tree="shared", learning_rate=1e30), part).losses
        assert set(losses[runs.validation.known].tolist()) == {DIVERGED}


def test_similarity_is_a_cosine(runs: ShortRuns) -> None:
    network = runs.train(RECIPE, 1.0, keep=True).network
    assert network is not None
    found = task_similarity(network)
    np.testing.assert_allclose(np.diag(found), 1.0)
    np.testing.assert_allclose(found, found.T)
    assert ((found >= 0) & (found <= 1 + 1e-12)).all()


def test_validation_without_groups_to_confirm_is_refused(catalog: Catalog) -> None:
    plan = planned(catalog, draws=320)
    with catalog.commit(author="ada", message="no validation") as change:
        rows = [row for row in change.now.samples().to_pylist() if row["split"] == "validation"]
        keys = [row["key"] for row in rows]
        change.add_attributes(pa.table({"key": keys, "split": ["test"] * len(keys)}))
    with pytest.raises(BadInput, match="no task has known labels in 4 groups of validation"):
        ShortRuns(catalog, planned(catalog, draws=336))
    ShortRuns(catalog, plan)
