"""Exact heads: the solution is the minimum, in whatever columns and from whatever start."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from training.network.exact import Columns, Loss, Problem, columns_of, head_of, losses_of, rotate, solve

OUTPUTS = {"binary": 1, "categorical": 4, "regression": 1, "huber": 1}


def problem(
    loss: Loss, seed: int = 0, labels: int = 30, width: int = 12, ridge: float = 1e-2
) -> tuple[Problem, torch.Tensor]:
    """Random labels with uneven weights, and the features [labels, width]."""
    generator = np.random.default_rng(seed)
    features = torch.from_numpy(generator.normal(size=(labels, width)))
    weights = torch.from_numpy(generator.dirichlet(np.ones(labels)))
    if loss in ("regression", "huber"):
        targets = torch.from_numpy(generator.normal(size=labels) * 2)
    else:
        targets = torch.from_numpy(generator.integers(0, max(2, OUTPUTS[loss]), labels))
    ridges = torch.tensor([ridge], dtype=torch.float64)
    columns = rotate(features, weights)
    found = Problem(
        loss=loss, outputs=OUTPUTS[loss], columns=columns, targets=targets, weights=weights[None], ridges=ridges
    )
    return found, features


def objective(asked: Problem, features: torch.Tensor, flat: np.ndarray) -> float:
    """The plan's objective on the features themselves, written out."""
    head = flat.reshape(asked.outputs, -1)
    logits = features.numpy() @ head[:, :-1].T + head[:, -1]
    targets = asked.targets.numpy()
    if asked.loss == "categorical":
        peak = logits.max(axis=1)
        each = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1)) - logits[np.arange(len(targets)), targets]
    elif asked.loss == "binary":
        each = np.logaddexp(0, logits[:, 0]) - targets * logits[:, 0]
    else:
        off = np.abs(logits[:, 0] - targets)
        each = np.where((off <= 1) | (asked.loss == "regression"), 0.5 * off**2, off - 0.5)
    return float(asked.weights[0].numpy() @ each + 0.5 * float(asked.ridges) * (head[:, :-1] ** 2).sum())


@pytest.mark.parametrize("loss", OUTPUTS)
@pytest.mark.parametrize("width", [12, 80])
def test_the_solution_is_the_minimum_that_scipy_finds(loss: Loss, width: int) -> None:
    asked, features = problem(loss, width=width)
    weights, biases = head_of(asked.columns, solve(asked).heads[0])
    mine = np.concatenate([weights.numpy(), biases.numpy()[:, None]], axis=1)
    other = minimize(
        lambda flat: objective(asked, features, flat), np.zeros(mine.size), method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000, "maxfun": 10**6},
    )  # fmt: skip
    assert objective(asked, features, mine.ravel()) <= other.fun + 1e-9
    assert np.allclose(
        mine - mine.mean(axis=0) * (len(mine) > 1),
        other.x.reshape(mine.shape) - other.x.reshape(mine.shape).mean(axis=0) * (len(mine) > 1),
        atol=1e-3,
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), loss=st.sampled_from(sorted(OUTPUTS)), exponent=st.integers(-6, 0))
def test_the_gradient_at_the_solution_is_zero(seed: int, loss: Loss, exponent: int) -> None:
    asked, features = problem(loss, seed, ridge=10.0**exponent)
    found = solve(asked)
    assert float(found.gradients[0]) < 1e-6
    weights, biases = head_of(asked.columns, found.heads[0])
    flat = torch.cat([weights, biases[:, None]], dim=1).numpy().ravel()
    for place in range(0, len(flat), 7):
        step = np.zeros_like(flat)
        step[place] = 1e-5
        slope = (objective(asked, features, flat + step) - objective(asked, features, flat - step)) / 2e-5
        assert abs(slope) < 1e-6


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), loss=st.sampled_from(sorted(OUTPUTS)))
def test_warm_and_cold_starts_end_at_the_same_head(seed: int, loss: Loss) -> None:
    asked, _ = problem(loss, seed, ridge=1e-3)
    cold = solve(asked).heads
    generator = torch.Generator().manual_seed(seed)
    warm = solve(asked, start=torch.randn(cold.shape, generator=generator, dtype=torch.float64)).heads
    assert float((warm - cold).abs().max()) < 1e-6


def test_problems_solved_together_are_those_solved_alone() -> None:
    asked, _ = problem("categorical")
    weights = torch.stack([asked.weights[0], asked.weights[0].flip(0)])
    both = Problem(
        loss="categorical", outputs=4, columns=asked.columns, targets=asked.targets, weights=weights,
        ridges=torch.tensor([1e-2, 1e-3], dtype=torch.float64),
    )  # fmt: skip
    together = solve(both).heads
    for row in range(2):
        alone = solve(both.part(torch.tensor([row]))).heads[0]
        assert float((together[row] - alone).abs().max()) < 1e-6


@pytest.mark.parametrize(("labels", "width"), [(20, 50), (50, 20)])
def test_columns_keep_every_product(labels: int, width: int) -> None:
    asked, features = problem("regression", labels=labels, width=width)
    columns: Columns = asked.columns
    assert columns.values.shape[1] - 1 <= min(labels, width)
    centred = features - columns.mean
    assert torch.allclose(columns.values[:, :-1] @ columns.values[:, :-1].T, centred @ centred.T, atol=1e-9)
    second = columns.values[:, :-1].T @ (asked.weights[0][:, None] * columns.values[:, :-1])
    assert torch.allclose(second, torch.diag(columns.moments), atol=1e-9)


def test_a_head_survives_the_way_to_columns_and_back() -> None:
    asked, features = problem("categorical", width=40)
    solved = solve(asked).heads[0]
    weights, biases = head_of(asked.columns, solved)
    assert torch.allclose(columns_of(asked.columns, weights, biases), solved, atol=1e-9)
    assert torch.allclose(features @ weights.T + biases, asked.columns.values @ solved.T, atol=1e-9)


def test_a_class_without_weight_takes_no_part() -> None:
    asked, _ = problem("categorical")
    absent = asked.targets == 2
    without = Problem(
        loss="categorical", outputs=4, columns=asked.columns, targets=asked.targets,
        weights=torch.where(absent, 0.0, asked.weights), ridges=asked.ridges,
    )  # fmt: skip
    found = solve(without)
    assert float(found.gradients[0]) < 1e-6
    assert not found.heads[0, 2].any()
    losses = losses_of(without, found.heads)[0]
    assert torch.isinf(losses[absent]).all()
    assert torch.isfinite(losses[~absent]).all()


def test_the_same_problem_has_the_same_bits() -> None:
    first, second = (solve(problem("categorical")[0]).heads for _ in range(2))
    assert torch.equal(first, second)
