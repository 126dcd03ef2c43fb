"""Several processes with gloo: one training, whatever their number."""

from dataclasses import dataclass

import pytest
import torch
from support.learned import make_features, planned
from support.ranks import MADE, on_ranks, work

from curation import Catalog
from samplers import Plan
from training import Run, train
from training.network.model import load_any


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The same training alone, and on 1, 2 and 1 ranks after each other; and the first gradients on 1 and 2 ranks."""

    catalog: Catalog
    plan: Plan
    alone: Run
    several: Run
    weights: dict[str, torch.Tensor]
    gradients: list[dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("ranks")
    catalog = make_features(folder)
    plan = planned(catalog, draws=384)
    alone = train(MADE, plan, catalog)
    weights = load_any(alone, plan.tasks, catalog.home).state_dict()
    (catalog.home / "runs" / alone.id / "run.json").unlink()
    on_ranks(1, work, catalog.home, plan.hash, str(folder / "found"), 7)
    on_ranks(2, work, catalog.home, plan.hash, str(folder / "found"), 15)
    several = train(MADE, plan, catalog)
    gradients = [torch.load(folder / f"found-{world}.pt") for world in (1, 2)]
    return Trained(catalog=catalog, plan=plan, alone=alone, several=several, weights=weights, gradients=gradients)


def test_a_gradient_is_that_of_the_global_batch(trained: Trained) -> None:
    one, two = trained.gradients
    scale = one["sum"].abs().max()
    assert float((one["sum"] - two["sum"]).abs().max() / scale) < 1e-6
    apart = float((one["naive"] - two["naive"]).abs().max() / one["naive"].abs().max())
    assert apart > 1e-3  # what a mean of means would have done


def test_a_run_goes_on_with_another_number_of_ranks(trained: Trained) -> None:
    found, alone = trained.several, trained.alone
    states = load_any(found, trained.plan.tasks, trained.catalog.home).state_dict()
    assert all(torch.allclose(states[name], part, rtol=1e-5, atol=1e-6) for name, part in trained.weights.items())
    assert [(row["state"], row["task"]) for row in found.states] == [(r["state"], r["task"]) for r in alone.states]
    assert (found.course, found.alarm) == (alone.course, "")
    drawn = [row["drawn"] for row in found.exposure(trained.catalog.home) if row["kind"] == "task"]
    assert sum(drawn) == found.curve[-1]["Draws"]
