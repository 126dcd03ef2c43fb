"""The watch over gradients: it gives what autograd gives on the draws that have both labels, and moves no weight."""

from dataclasses import replace

import pytest
import torch
from support.learned import TASKS, make_features, planned, recipe
from support.steps import SIZE, draws, learner, states

from training import Run, train
from training.loop.affinity import EVERY, RELIABLE, TaskAffinity
from training.network.tree_network import TreeNetwork

NAMES = [task.name for task in TASKS]


def by_autograd(made: TreeNetwork, seed: int) -> dict[tuple[int, int], float]:
    """Cosines of the gradients at the features of the branch that all but `car` read, over draws with both labels."""
    found, batch = {}, draws(seed)
    features = made.branches["both"](batch.inputs).detach().requires_grad_()
    head = made.head("both")
    gradients = []
    for t in range(len(NAMES)):
        node, rows = made.rows(t)
        if node != "both":
            gradients.append(torch.zeros_like(features))
            continue
        outputs = torch.zeros(SIZE, made.losses.layout.linear)
        columns = made.losses.layout.columns[t]
        outputs = torch.cat(
            [outputs[:, : columns.start], features @ head.weight[rows].T + head.bias[rows], outputs[:, columns.stop :]],
            dim=1,
        )
        losses = made.losses(outputs, batch.values, batch.known, batch.weights, total=SIZE)
        gradients.append(torch.autograd.grad(losses[t], features, retain_graph=True)[0])
    for a in range(len(NAMES)):
        for b in range(a + 1, len(NAMES)):
            both = (batch.known[:, a] & batch.known[:, b])[:, None]
            one, other = gradients[a] * both, gradients[b] * both
            found[a, b] = float((one * other).sum() / (one.norm() * other.norm()))
    return found


def test_cosines_are_those_of_autograd() -> None:
    made = learner()
    assert isinstance(made.network, TreeNetwork)
    expected = by_autograd(made.network, 3)
    made.step(replace(draws(3)), 0, 1.0)
    assert made.affinity is not None
    car = NAMES.index("car")
    for row in made.affinity.rows(NAMES):
        a, b = NAMES.index(row["one"]), NAMES.index(row["other"])
        if car in (a, b):
            assert row["cosine"] is None  # its head reads a branch of its own
        elif row["share"] >= RELIABLE:
            assert row["cosine"] == pytest.approx(expected[a, b], abs=1e-5)
        else:
            assert row["cosine"] is None
    assert any(row["cosine"] is not None for row in made.affinity.rows(NAMES))


def test_only_every_tenth_step_is_watched_and_nothing_learns_otherwise() -> None:
    watched, unwatched = learner(), learner()
    unwatched.affinity = None
    for number in range(EVERY + 2):
        for made in (watched, unwatched):
            made.step(draws(number), number, 1.0)
    first, second = states(watched), states(unwatched)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert watched.affinity is not None
    together = sum(draws(number).known[:, 0].sum() for number in (0, EVERY))
    assert int(watched.affinity.sums[2, 0, 0]) == int(together)


def test_tasks_that_are_never_known_together_have_no_cosine() -> None:
    made = learner()
    batch = draws(0)
    known = batch.known.clone()
    known[:, 1] &= ~known[:, 2]
    made.step(replace(batch, known=known, weights=known.float()), 0, 1.0)
    assert isinstance(made.affinity, TaskAffinity)
    row = next(row for row in made.affinity.rows(NAMES) if (row["one"], row["other"]) == (NAMES[1], NAMES[2]))
    assert (row["both"], row["share"], row["cosine"]) == (0, 0.0, None)


def test_the_run_keeps_them(tmp_path_factory: pytest.TempPathFactory) -> None:
    catalog = make_features(tmp_path_factory.mktemp("affinity"))
    plan = planned(catalog, draws=320)
    run = train(recipe(tree="shared", learning_rate=0.02), plan, catalog)
    kept = Run.open(catalog.home, run.id).affinity
    count = len(plan.tasks)
    assert len(kept) == count * (count - 1) // 2
    assert all(-1 <= row["cosine"] <= 1 for row in kept if row["cosine"] is not None)
